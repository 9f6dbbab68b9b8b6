"""Visitors of the web page, all at once: does each get the picture that it asked for, and how long does it take?

.venv-ui/bin/python bench/visitors.py --url http://127.0.0.1:7860 --visitors 20 --rounds 1

Prints one line of JSON; exits with 1 when a visitor got nothing, or another one's picture.
"""

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from gradio_client import Client

PROMPT = "a red circle on a blue background"
LONGEST_S = 170.0


@dataclass(frozen=True)
class Visit:
    """One picture that was asked for: whether it came, under which job, and after how long."""

    seed: int
    job: str
    well: bool
    took_s: float


def main() -> None:
    """Let everybody in, and say how it went."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=1)
    args = parser.parse_args()
    seeds = range(1000, 1000 + args.visitors * args.rounds)
    with ThreadPoolExecutor(args.visitors) as doors:
        visits = list(doors.map(lambda seed: visit(args.url, seed), seeds))
    well = all(one.well for one in visits) and len({one.job for one in visits}) == len(visits)
    sys.stdout.write(json.dumps({"well": well, "visits": [asdict(one) for one in visits]}) + "\n")
    sys.exit(0 if well else 1)


def visit(url: str, seed: int) -> Visit:
    """Ask for a picture from a seed of one's own, and wait for it."""
    began = time.monotonic()
    client = Client(url, verbose=False, download_files=False, httpx_kwargs={"timeout": LONGEST_S})
    try:
        job = str(client.predict(**_form(client, seed), api_name="/text-to-image")[0])
        seen = client.submit(job, api_name="/text-to-image-result").result(timeout=LONGEST_S)
    finally:
        client.close()
    return Visit(seed, job, f"seed {seed}" in json.dumps(seen), round(time.monotonic() - began, 2))


def _form(client: Client, seed: int) -> dict[str, Any]:
    """The form's own values, with the prompt and few steps."""
    fields = client.view_api(return_format="dict", print_info=False)["named_endpoints"]["/text-to-image"][
        "parameters"
    ]
    own = {field["label"]: field["parameter_name"] for field in fields}
    given = {field["parameter_name"]: field["parameter_default"] for field in fields}
    return {**given, own["Prompt"]: PROMPT, own["Inference steps"]: 2, own["Seed"]: str(seed)}


if __name__ == "__main__":
    main()
