"""What the Hugging Face hub refuses, in words that say what to do about it."""

import difflib
import errno
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from shared.errors import ModelUnavailable

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
FULL = (errno.ENOSPC, errno.EDQUOT)  # network volumes have quotas, and report them as the latter
IN_WORDS = re.compile(rf"\(os error ({'|'.join(map(str, FULL))})\)")  # how Rust, and so xet, writes them
NEAREST = 5
SEARCH_S = 5.0


class DiskFull(Exception):
    """A write failed since the volume, or its quota, is full."""


def is_full(exc: BaseException) -> bool:
    """Whether a write failed since the volume, or its quota, is full."""
    return isinstance(exc, DiskFull) or (isinstance(exc, OSError) and exc.errno in FULL)


def full(model_id: str, needed: int | None = None) -> ModelUnavailable:
    """What is said where there is no space, and no model may go; `needed` in bytes, where it is known."""
    size = "" if needed is None else f" ({needed / 10**9:.1f} GB)"
    return ModelUnavailable(
        f"'{model_id}'{size} cannot be stored: the volume is full; delete files or evict models, or take a larger "
        "volume",
        reason="disk_full",
    )


def unusable(model_id: str, exc: OSError) -> ModelUnavailable:
    """What is said where the volume that models are downloaded to fails."""
    if is_full(exc):
        return full(model_id)
    why = exc.strerror or type(exc).__name__
    return ModelUnavailable(f"the volume for models cannot be used: {why}", reason="volume")


def asked(api: "HfApi", model_id: str, revision: str, call: Callable[[], T]) -> T:
    """Run a call of huggingface_hub; this is the edge at which its errors become ours.

    Raises:
        ModelUnavailable: with a `reason`: gated, token, unknown, revision, unreachable, offline or interrupted.
        DiskFull: there was no space for what came.
        FileNotFoundError: the folder to write to was moved meanwhile.
    """
    from httpx2 import HTTPError, InvalidURL
    from huggingface_hub import errors as hub

    try:
        return call()
    except hub.GatedRepoError as exc:
        raise _gated(api, model_id) from exc
    except hub.RevisionNotFoundError as exc:
        raise _no_revision(api, model_id, revision) from exc
    except hub.RepositoryNotFoundError as exc:
        raise _unknown(api, model_id) from exc
    except hub.HfHubHTTPError as exc:
        raise _refused(api, model_id, exc) from exc
    except hub.OfflineModeIsEnabled as exc:
        raise offline(model_id) from exc
    except (HTTPError, InvalidURL) as exc:
        raise _unreachable(api, model_id, exc) from exc
    except FileNotFoundError:  # the folder that was written to is gone
        raise
    except OSError as exc:
        if is_full(exc):
            raise DiskFull from exc
        raise _interrupted(model_id, exc) from exc
    except RuntimeError as exc:  # of xet, which has no other
        if IN_WORDS.search(str(exc)):
            raise DiskFull from exc
        raise _interrupted(model_id, exc) from exc
    except ValueError as exc:  # an answer that is no JSON, or a name that is none
        raise _interrupted(model_id, exc) from exc


def _has_token(api: "HfApi") -> bool:
    from huggingface_hub import get_token

    return bool(api.token or get_token())  # huggingface_hub falls back on its own login


def _address(api: "HfApi") -> str:
    """The hub's, without the name and password that HF_ENDPOINT may hold."""
    scheme, mark, rest = api.endpoint.rpartition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}"


def _gated(api: "HfApi", model_id: str) -> ModelUnavailable:
    page = f"{_address(api)}/{model_id}"
    if _has_token(api):
        words = f"accept its terms at {page} with the account that HF_TOKEN is of, or set a token of one that has"
    else:
        words = f"accept its terms at {page} and set HF_TOKEN to a token of that account"
    return ModelUnavailable(f"'{model_id}' is gated: {words}", reason="gated")


def _no_revision(api: "HfApi", model_id: str, revision: str) -> ModelUnavailable:
    def names() -> list[str]:
        refs = api.list_repo_refs(model_id)
        known = [ref.name for ref in (*refs.branches, *refs.tags)]
        return difflib.get_close_matches(revision, known, NEAREST, cutoff=0.4) or known[:NEAREST]

    there = _nearest(names)
    return ModelUnavailable(
        f"'{model_id}' has no revision '{revision}'{f'; it has: {there}' if there else ''}", reason="revision"
    )


def _unknown(api: "HfApi", model_id: str) -> ModelUnavailable:
    def names() -> list[str]:
        owner, _, name = model_id.rpartition("/")
        found = _search(api, search=name) or (_search(api, author=owner) if owner else [])
        return difflib.get_close_matches(model_id, dict.fromkeys(found), NEAREST, cutoff=0.0)

    there = _nearest(names)
    access = "HF_TOKEN may not see it" if _has_token(api) else "it is private and needs HF_TOKEN"
    return ModelUnavailable(
        f"the hub has no '{model_id}', or {access}{f'; the nearest it has: {there}' if there else ''}",
        reason="unknown",
    )


def _search(api: "HfApi", **asked_for: str) -> list[str]:
    """Asked once: `list_models` tries a hub that fails again for 20 s, and this is for an error's message only."""
    from huggingface_hub import get_session

    answer = get_session().get(f"{api.endpoint}/api/models", params={**asked_for, "limit": "20"}, timeout=SEARCH_S)
    answer.raise_for_status()
    return [model["id"] for model in answer.json()]


def _nearest(names: Callable[[], list[str]]) -> str:
    """Suggestions, where the hub answers; without them the error is still the error."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return ", ".join(names())
    except (HTTPError, HfHubHTTPError, ValueError, KeyError, OSError):
        return ""


def _refused(api: "HfApi", model_id: str, exc: Any) -> ModelUnavailable:
    status = exc.response.status_code
    if status == 401 and _has_token(api):
        page = f"{_address(api)}/settings/tokens"
        return ModelUnavailable(f"the hub does not accept HF_TOKEN; make a new one at {page}", reason="token")
    if status == 401:
        return _unknown(api, model_id)
    if status == 429:
        return ModelUnavailable(
            f"'{model_id}' cannot be fetched now: the hub is asked too often; try again later, or set HF_TOKEN",
            reason="unreachable",
        )
    if status == 403:
        words = "HF_TOKEN has no right to read it; fine-grained tokens need 'read access to gated repos'"
        return ModelUnavailable(f"'{model_id}' cannot be fetched: {words} (403)", reason="token")
    return ModelUnavailable(f"'{model_id}' cannot be fetched: the hub answers {status}", reason="unreachable")


def offline(model_id: str) -> ModelUnavailable:
    """What is said where nobody may be asked."""
    return ModelUnavailable(f"'{model_id}' is not on the volume, and HF_HUB_OFFLINE is set", reason="offline")


def _unreachable(api: "HfApi", model_id: str, exc: BaseException) -> ModelUnavailable:
    kind = type(exc).__name__
    return ModelUnavailable(
        f"'{model_id}' cannot be fetched: {kind} from {_address(api)}; check the network, or HF_ENDPOINT",
        reason="unreachable",
    )


def _interrupted(model_id: str, exc: Exception) -> ModelUnavailable:
    return ModelUnavailable(
        f"the download of '{model_id}' broke off ({type(exc).__name__}); whole files are kept, so try again",
        reason="interrupted",
    )
