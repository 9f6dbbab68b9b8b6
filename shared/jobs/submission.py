"""Checks the body of `/run` and `/runsync`."""

from typing import Any
from urllib.parse import urlsplit

from shared.errors import InvalidInput
from shared.jobs.backend import Policy, Submission

DAY_MS = 86_400_000
EXECUTION_TIMEOUT_MS = (5_000, 7 * DAY_MS)
TTL_MS = (10_000, 7 * DAY_MS)


def read_submission(body: Any, *, sync: bool, idempotency_key: str | None) -> Submission:
    """The submission in a request's JSON; other members than RunPod's are dropped, as RunPod does.

    Raises:
        InvalidInput: naming the member that cannot be used.
    """
    if not isinstance(body, dict):
        raise InvalidInput('body: send a JSON object such as {"input": {...}}')
    job_input = body.get("input")
    if not isinstance(job_input, dict) or not job_input:
        # RunPod hands an empty input to the worker without its key, where the SDK drops the job
        raise InvalidInput("input: send an object with at least one member")
    return Submission(
        input=job_input,
        sync=sync,
        policy=_policy(_object(body, "policy") or {}),
        webhook=_webhook(body.get("webhook")),
        s3_config=_object(body, "s3Config"),
        idempotency_key=idempotency_key,
    )


def _object(body: dict[str, Any], name: str) -> dict[str, Any] | None:
    value = body.get(name)
    if value is not None and not isinstance(value, dict):
        raise InvalidInput(f"{name}: must be an object")
    return value


def _policy(given: dict[str, Any]) -> Policy:
    default = Policy()
    return Policy(
        _bounded(given, "executionTimeout", EXECUTION_TIMEOUT_MS, default.execution_timeout_ms),
        _bounded(given, "ttl", TTL_MS, default.ttl_ms),
    )


def _bounded(given: dict[str, Any], name: str, bounds: tuple[int, int], default: int) -> int:
    value = given.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int) or not bounds[0] <= value <= bounds[1]:
        raise InvalidInput(f"policy.{name}: must be between {bounds[0]} and {bounds[1]} ms")
    return value


def _webhook(value: Any) -> str | None:
    if value is None:
        return None
    try:
        parts = urlsplit(value) if isinstance(value, str) and value.isascii() else None
    except ValueError:
        parts = None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidInput("webhook: must be an http or https URL")
    return str(value)
