"""What was said before an answer, as the chatbot, the browser or a receipt has it."""

from collections.abc import Mapping
from typing import Any

from ui import chat, results
from ui.chat import Turn

NOTHING_SAID: dict[str, Any] = {"job": "", "turns": [], "nudge": "", "format": chat.TEMPLATE}


def kept(talk: Any, job_id: str) -> dict[str, Any]:
    """What the browser kept of this job's conversation; nothing where it kept that of another, or something else."""
    ours = isinstance(talk, dict) and talk.keys() == NOTHING_SAID.keys() and talk["job"] == job_id
    return talk if ours and _are_turns(talk["turns"]) and isinstance(talk["nudge"], str) else NOTHING_SAID


def asked(details: Mapping[str, Any]) -> tuple[list[Turn], str]:
    """The turns before an answer, and its first words, by the receipt in its details."""
    params = results.params_of({"output": dict(details)})
    said, nudge = params.get("messages"), params.get("nudge")
    if not said or not _are_turns(said):
        prompt = params.get("prompt")
        said = [{"role": "user", "content": prompt}] if isinstance(prompt, str) and prompt else []
    turns = [{"role": turn["role"], "content": turn["content"]} for turn in said if turn["role"] != "system"]
    return turns, nudge if isinstance(nudge, str) else ""


def _are_turns(said: Any) -> bool:
    return isinstance(said, list) and all(
        isinstance(turn, dict) and all(isinstance(turn.get(part), str) for part in ("role", "content"))
        for turn in said
    )


def of_chatbot(shown: list[dict[str, Any]]) -> list[Turn]:
    """The conversation in the chatbot, which keeps a text as a list of parts; empty answers are left out."""
    texts = [(turn["role"], _text(turn["content"])) for turn in shown or []]
    return [{"role": role, "content": text} for role, text in texts if text]


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(part if isinstance(part, str) else str(part.get("text", "")) for part in content)


def with_answer(turns: list[Turn], answer: str) -> list[Turn]:
    """The conversation with an answer, as far as it is written."""
    return [*turns, {"role": "assistant", "content": answer}]
