"""The jobs that a browser has submitted, as its own storage keeps them: what they were asked, and how they ended."""

import html
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from ui.endpoint import JOB_ID

KEY = "pilotlight-jobs"
MOST = 60
LONGEST = 10_000  # characters of a parameter as JSON; what is longer holds files
ABOUT = 200
EMPTY = "Nothing yet. Jobs that you submit in this browser are listed here, also after a reload."
TEXTS = ("job", "pipeline", "about", "state", "when")
STATES = {
    "IN_QUEUE": "under way",
    "COMPLETED": "done",
    "FAILED": "failed",
    "CANCELLED": "cancelled",
    "TIMED_OUT": "took too long",
}

RECALL = f"""() => {{
  try {{ return [localStorage.getItem("{KEY}") ?? ""]; }} catch {{ return [""]; }}
}}"""
"""JavaScript for an event whose input is a text: passes on all that the browser keeps."""

NOTE = f"""(note) => {{
  let kept = [];
  try {{ kept = JSON.parse(localStorage.getItem("{KEY}")); }} catch {{}}
  kept = (Array.isArray(kept) ? kept : []).filter((one) => one?.job);
  const news = JSON.parse(note), known = kept.find((one) => one.job === news.job);
  if (known) Object.assign(known, news);
  else if (news.pipeline) {{
    const when = new Date().toLocaleString(undefined, {{dateStyle: "short", timeStyle: "short"}});
    kept = [{{...news, when}}, ...kept].slice(0, {MOST});
  }}
  try {{ localStorage.setItem("{KEY}", JSON.stringify(kept)); }} catch {{}}
  return [JSON.stringify(kept)];
}}"""
"""JavaScript for an event whose input is a note: keeps it in the browser, and passes on all that is kept.

It is done there, since two tabs that each sent their list would each leave out what the other one adds.
"""

FORGET = f"""() => {{
  try {{ localStorage.removeItem("{KEY}"); }} catch {{}}
  return [""];
}}"""

OPEN = """element.addEventListener("click", (event) => {
  const row = event.target.closest("a[data-job]");
  if (!row || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  trigger("click", {job: row.dataset.job});
});"""
"""JavaScript for `rows`: a click opens the job in this page; the row's own address opens it in another one."""


@dataclass(frozen=True)
class Noted:
    """A job that a browser remembers; `params` is what it was sent, without files."""

    job: str
    pipeline: str
    about: str = ""
    state: str = ""
    when: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> str:
        """As the page's address names the job."""
        return f"{self.pipeline}/{self.job}"


def begun(job: str, job_input: Mapping[str, Any], about: str) -> str:
    """The note of a job that was submitted."""
    params = {name: value for name, value in job_input.items() if name != "pipeline" and not _holds_files(value)}
    noted = {"job": job, "pipeline": job_input["pipeline"], "about": about[:ABOUT], "state": "IN_QUEUE"}
    return json.dumps({**noted, "params": params})


def _holds_files(value: Any) -> bool:
    text = json.dumps(value)
    return len(text) > LONGEST or ";base64," in text


def changed(job: str, state: str) -> str:
    """The note of what became of a job; one that the browser does not know stays unknown to it."""
    return json.dumps({"job": job.partition("#")[0], "state": state})


def opened(job: str, noted: Sequence[Noted]) -> str:
    """A job that is opened again, and what it was sent, where that is known; no two are the same text."""
    known = next((one.params for one in noted if one.job == job), None)
    return json.dumps({"job": job, "params": known, "at": time.time()})


def read(kept: str) -> list[Noted]:
    """The jobs that a browser keeps, newest first; whatever else is in its storage is passed over."""
    try:
        listed = json.loads(kept)
    except (ValueError, RecursionError):
        return []
    return [noted for one in listed if (noted := _noted(one))][:MOST] if isinstance(listed, list) else []


def _noted(one: Any) -> Noted | None:
    if not isinstance(one, dict):
        return None
    texts = {name: value for name in TEXTS if isinstance(value := one.get(name, ""), str)}
    params = one.get("params")
    found = Noted(**{"job": "", "pipeline": "", **texts}, params=params if isinstance(params, dict) else {})
    return found if JOB_ID.fullmatch(found.job) else None


def rows(noted: Sequence[Noted], titles: Mapping[str, str]) -> str:
    """The jobs of pipelines with a title, as links that open them again."""
    made = [_row(one, titles[one.pipeline]) for one in noted if one.pipeline in titles]
    return f'<ol class="job-rows">{"".join(made)}</ol>' if made else f'<p class="job-rows">{EMPTY}</p>'


def _row(one: Noted, title: str) -> str:
    state = STATES.get(one.state, "")
    told = " · ".join(part for part in (one.when[:40], state) if part)
    cells = (
        f"<b>{html.escape(title)}</b><span>{html.escape(one.about[:ABOUT])}</span><small>{html.escape(told)}</small>"
    )
    address = html.escape(one.address)
    return f'<li><a href="?{html.escape(urlencode({"job": one.address}))}" data-job="{address}">{cells}</a></li>'
