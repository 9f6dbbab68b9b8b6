"""config.yml: which endpoints the page serves, and how; also in the words of the first chat Space's file."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

RUNPOD_URL = "https://api.runpod.ai/v2"
KEY = "RUNPOD_AI_API_KEY"
CHAT = "text-generation"
UNSET = "<replace me>"
SECRETS = ("key", "api_key", "token", "password")


class ConfigError(Exception):
    """What the owner has to do before the page can work, one sentence each."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Endpoint:
    """Where the jobs of some pipelines go. `receipt_key` verifies its receipts: 32 bytes in base64."""

    name: str
    endpoint_id: str
    pipelines: tuple[str, ...]
    key: str = field(repr=False)
    key_env: str = KEY
    base_url: str = RUNPOD_URL
    price_per_s: float | None = None
    receipt_key: str | None = None


@dataclass(frozen=True)
class Poll:
    """Seconds between two looks at a job: the first pause, its growth while nothing changes, and the longest."""

    first_s: float = 0.3
    growth: float = 1.3
    longest_s: float = 2.0
    patience_s: float = 60.0


@dataclass(frozen=True)
class Config:
    """The whole file, checked. `defaults` and `examples` are by pipeline."""

    endpoints: tuple[Endpoint, ...]
    title: str = "Pilotlight"
    model_url: str | None = None
    prefer_async: bool = True
    poll: Poll = Poll()
    queue_max: int = 256
    concurrency: int = 64
    currency: str = "USD"
    typing_delay_s: float = 0.0
    defaults: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def endpoint_of(self, pipeline: str) -> Endpoint | None:
        """The first endpoint that serves a pipeline."""
        return next((e for e in self.endpoints if pipeline in e.pipelines), None)


def load(path: Path, environment: Mapping[str, str]) -> Config:
    """The file's configuration, with the keys that the environment holds.

    Raises:
        ConfigError: all that is missing or wrong, for the owner to read on the page.
    """
    try:
        given = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise ConfigError("There is no config.yml beside app.py; copy it from the repository.") from None
    except yaml.YAMLError as exc:
        where = f" near line {mark.line + 1}" if (mark := getattr(exc, "problem_mark", None)) else ""
        raise ConfigError(f"config.yml is not valid YAML{where}.") from None
    if not isinstance(given, dict):
        raise ConfigError("config.yml must be a list of settings, such as `title: My Space`.")
    return read(given, environment)


def read(given: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    """The configuration in a parsed file; see `load`."""
    problems = [*_secrets(given), *_missing(_endpoints(given), environment)]
    if problems:
        raise ConfigError(*problems)
    try:
        return _config(given, environment)
    except (TypeError, ValueError, AttributeError) as exc:
        raise ConfigError(f"config.yml has a value of the wrong kind: {exc}") from None


def _config(given: Mapping[str, Any], environment: Mapping[str, str]) -> Config:
    queue, poll = _part(given, "queue"), _part(given, "poll")
    endpoints = tuple(_endpoint(e, environment) for e in _endpoints(given))
    url = given.get("model_url")
    return Config(
        endpoints=endpoints,
        title=str(given.get("title") or Config.title),
        model_url=str(url) if url and url != UNSET else None,
        prefer_async=bool(given.get("prefer_async", _part(given, "runpod").get("prefer_async", True))),
        poll=Poll(**{name: float(value) for name, value in poll.items()}),
        queue_max=int(queue.get("max_size") or Config.queue_max),
        concurrency=int(queue.get("concurrency_count") or Config.concurrency),
        currency=str(given.get("currency") or Config.currency),
        typing_delay_s=float(_part(given, "typer").get("delay") or 0),
        defaults=_defaults(given),
        examples={name: tuple(map(str, said)) for name, said in _part(given, "examples").items()},
    )


def _endpoints(given: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The endpoints; the first chat Space named one, of text, under `runpod`."""
    listed = given.get("endpoints")
    if isinstance(listed, list):
        return [e if isinstance(e, dict) else {} for e in listed]
    if only := _part(given, "runpod"):
        return [{"name": "Text", "pipelines": [CHAT], **only}]
    return []


def _endpoint(given: Mapping[str, Any], environment: Mapping[str, str]) -> Endpoint:
    key_env = str(given.get("key_env") or KEY)
    price = given.get("price_per_s")
    return Endpoint(
        name=str(given.get("name") or given["endpoint_id"]),
        endpoint_id=str(given["endpoint_id"]),
        pipelines=tuple(map(str, given["pipelines"])),
        key=environment[key_env].strip(),
        key_env=key_env,
        base_url=str(given.get("base_url") or RUNPOD_URL).rstrip("/"),
        price_per_s=None if price is None else float(price),
        receipt_key=given.get("receipt_key"),
    )


def _missing(endpoints: list[Mapping[str, Any]], environment: Mapping[str, str]) -> list[str]:
    if not endpoints:
        return ["config.yml names no endpoint: add one under `endpoints`, with its `endpoint_id` and `pipelines`."]
    problems = []
    for number, endpoint in enumerate(endpoints, start=1):
        name = endpoint.get("name") or f"number {number}"
        if endpoint.get("endpoint_id") in (None, "", UNSET):
            problems.append(f"Endpoint {name}: write its `endpoint_id` into config.yml.")
        if not isinstance(endpoint.get("pipelines"), list):
            problems.append(f"Endpoint {name}: list its `pipelines` in config.yml.")
        key_env = str(endpoint.get("key_env") or KEY)
        if not environment.get(key_env, "").strip():
            problems.append(f"Endpoint {name}: add the secret {key_env} to the Space; it is the endpoint's API key.")
    return problems


def _secrets(given: Any, where: str = "") -> list[str]:
    """Places where the file may hold a key, which everybody could read there."""
    if isinstance(given, list):
        return [problem for each in given for problem in _secrets(each, where)]
    if not isinstance(given, dict):
        return []
    found = [
        f"config.yml has `{where}{name}`: a key must never be in this file. Remove it, revoke it, and put a new one "
        f"into the secret {KEY}."
        for name in given
        if name in SECRETS
    ]
    return found + [p for name, value in given.items() for p in _secrets(value, f"{where}{name}.")]


def _defaults(given: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Form values by pipeline; `llm` held those of the chat."""
    listed = {name: dict(values or {}) for name, values in _part(given, "defaults").items()}
    chat = {name: value for name, value in _part(given, "llm").items() if value is not None}
    return {**listed, CHAT: {**chat, **listed.get(CHAT, {})}}


def _part(given: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = given.get(name) or {}
    if not isinstance(part, dict):
        raise ConfigError(f"config.yml: `{name}` must hold settings of its own, indented below it.")
    return part
