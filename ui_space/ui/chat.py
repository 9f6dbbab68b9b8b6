"""A conversation as a job's input, in one of three formats, and its answer as it comes."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ui import failures
from ui.endpoint import Endpoint, Stream
from ui.failures import Failure
from ui.results import whole

TEMPLATE = "The model's chat template"
PLAIN = "USER: / ASSISTANT:"
ROLEPLAY = "<|user|> / <|model|>"
FORMATS = (TEMPLATE, PLAIN, ROLEPLAY)
MARKS = {PLAIN: ("", "USER: ", "ASSISTANT: "), ROLEPLAY: ("<|system|>", "<|user|>", "<|model|>")}
PAUSE_S = 0.3  # between two looks at an endpoint that does not hold them
OFF = 1.0  # top_p and repetition_penalty at 0, the lower end of their sliders, are meant as "without"

Turn = dict[str, str]


@dataclass(frozen=True)
class Settings:
    """What the sliders say; names are the endpoint's."""

    max_new_tokens: int = 300
    temperature: float = 0.8
    top_p: float = 0.95
    top_k: int = 40
    repetition_penalty: float = 1.1
    system_prompt: str = ""
    stop: tuple[str, ...] = ()
    more: Mapping[str, Any] = field(default_factory=dict)  # of config.yml, which the page shows no slider for

    def as_input(self) -> dict[str, Any]:
        """The settings as members of a job's input."""
        return {
            **self.more,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p or OFF,
            "top_k": self.top_k,
            "repetition_penalty": self.repetition_penalty or OFF,
        }


def job_input(pipeline: str, turns: Sequence[Turn], nudge: str, form: str, settings: Settings) -> dict[str, Any]:
    """The job that answers the last turn, in the chat format `form`; `nudge` are the answer's first words.

    The model's own template is applied by the endpoint. The other two are one text, which names the speakers.
    """
    stop = list(settings.stop)
    told = {"pipeline": pipeline, **settings.as_input(), "details": True}
    if form == TEMPLATE:
        system = {"system_prompt": settings.system_prompt} if settings.system_prompt else {}
        return {**told, **system, "messages": list(turns), "nudge": nudge, "stop": stop}
    _, user, _ = MARKS[form]
    prompt = as_text(turns, nudge, form, settings.system_prompt)
    return {**told, "prompt": prompt, "stop": [*stop, user.strip()]}


def as_text(turns: Sequence[Turn], nudge: str, form: str, system_prompt: str) -> str:
    """The conversation as one text, ready for the answer's next word.

    It ends without a space: some models answer one with a character that nobody sees.
    """
    system, user, assistant = MARKS[form]
    lines = [f"{system}{system_prompt.strip()}"] if system_prompt.strip() else []
    lines += [f"{user if turn['role'] == 'user' else assistant}{turn['content']}" for turn in turns]
    return "\n".join([*lines, f"{assistant}{nudge}"]).rstrip()


def refuses_messages(failure: Failure) -> bool:
    """Whether the worker is one that knows prompts only, as the first ones did."""
    return failure.code in ("invalid_input", "internal") and "prompt" in failure.message.lower()


def words(text: str) -> list[str]:
    """The text word by word, each with the space around it."""
    return re.findall(r"\s*\S+\s*|\s+", text)


@dataclass(frozen=True)
class Answer:
    """An answer as far as it is written; `details` come with its end, where the endpoint tells them."""

    text: str
    status: str
    details: Mapping[str, Any] = field(default_factory=dict)


async def answer(endpoint: Endpoint, job_id: str) -> AsyncIterator[Answer]:
    """The answer as it grows, the last one whole; a look without news repeats it.

    Where another worker began anew, the text begins anew too. RunPod forgets pieces that were read: there, the
    job's output has the text in the end.

    Raises:
        Failure: the job failed or was cancelled, or the endpoint does not answer.
    """
    pieces: list[Any] = []
    start, stream = 0, Stream("IN_QUEUE", [], 0, 0, numbered=False)
    while not stream.ended:
        asked = time.monotonic()
        stream = await endpoint.aside(endpoint.stream, job_id, start)
        if 0 < start <= stream.first:
            pieces = []
        pieces += stream.pieces
        start = stream.next
        yield _answer(pieces, stream.status)
        if not stream.pieces and not stream.ended:
            await asyncio.sleep(max(0.0, asked + PAUSE_S - time.monotonic()))
    job = await endpoint.aside(endpoint.status, job_id)
    if job["status"] != "COMPLETED":
        raise failures.of_job(job)
    output = job.get("output")
    complete = output if isinstance(output, list) and len(output) >= len(pieces) else pieces
    yield _answer(complete or [output or ""], "COMPLETED")


def _answer(pieces: list[Any], status: str) -> Answer:
    output = whole(pieces)
    return Answer(output["text"], status, {name: value for name, value in output.items() if name != "text"})
