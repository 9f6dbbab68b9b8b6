"""The endpoints that `up` and `deploy` made known on this machine, in a file that only their user can read."""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from shared.errors import InvalidInput, NotFound, Unauthorized
from shared.models.catalog import TEXT_GENERATION
from shared.settings import Settings, variable

MEDIA = "media"


@dataclass(frozen=True)
class Endpoint:
    """Where jobs go: `url` ends before the endpoint's id, as the official client's base URL does."""

    name: str
    url: str
    key: str


def record_path() -> Path:
    """The record's place, by the XDG base directory specification."""
    base = variable("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "pilotlight" / "endpoints.json"


def remember(endpoints: Sequence[Endpoint], path: Path | None = None) -> None:
    """Put the endpoints first in the record, in place of older ones of their names or at their place."""
    path = path or record_path()
    names, urls = {e.name for e in endpoints}, {e.url for e in endpoints}
    others = [e for e in _read(path) if e.name not in names and e.url not in urls]
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(part := path.with_suffix(".part"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump([asdict(e) for e in (*endpoints, *others)], file, indent=1)
    part.replace(path)


def find(wanted: str | None, pipeline: str | None, settings: Settings, key_env: str | None = None) -> Endpoint:
    """The endpoint named by the command line, else by `PILOTLIGHT_URL`, else the newest in the record.

    Args:
        wanted: a name of the record, or a URL `http://host:port/v2/name`.
        pipeline: chooses among an endpoint's ids where the URL names none: `text-generation`, else `media`.
        key_env: a variable that holds the key; else `PILOTLIGHT_API_KEY`, else the record.

    Raises:
        NotFound: there is no such endpoint. Unauthorized: there is no key for it. InvalidInput: the record is broken.
    """
    known = _read(record_path())
    wanted = wanted or settings.pilotlight_url
    if wanted and "://" in wanted:
        base, name = _split(wanted, pipeline)
        key = next((e.key for e in known if e.url == base), None)
        return Endpoint(name, base, _key(key, settings, key_env))
    matching = [e for e in known if wanted in (None, e.name) and (wanted or e.name == _default_name(pipeline))]
    matching = matching or [e for e in known if wanted is None]
    if not matching:
        what = f"no endpoint '{wanted}' is on record" if wanted else "no endpoint is on record"
        raise NotFound(f"{what}; start one with `pilotlight up`, or name one with --endpoint URL")
    return Endpoint(matching[0].name, matching[0].url, _key(matching[0].key, settings, key_env))


def find_all(wanted: str | None, settings: Settings, key_env: str | None = None) -> list[Endpoint]:
    """Where a job may be whose pipeline is not known: the endpoint of `find`, and its neighbours where it may be one.

    Raises:
        NotFound, Unauthorized: as `find`.
    """
    wanted = wanted or settings.pilotlight_url
    names_one = wanted is not None and not wanted.rstrip("/").endswith("/v2")
    first = find(wanted, None, settings, key_env)
    ids = [e.name for e in _read(record_path()) if e.url == first.url] or [MEDIA, TEXT_GENERATION]
    others = [] if names_one else [Endpoint(name, first.url, first.key) for name in ids if name != first.name]
    return [first, *others]


def _key(recorded: str | None, settings: Settings, key_env: str | None) -> str:
    given = variable(key_env) if key_env else None
    if key_env and not given:
        raise Unauthorized(f"the variable {key_env} is not set")
    own = settings.pilotlight_api_key
    key = given or (own.get_secret_value() if own else None) or recorded
    if not key:
        raise Unauthorized("no key for this endpoint; set PILOTLIGHT_API_KEY, or name a variable with --key-env")
    return key


def _split(url: str, pipeline: str | None) -> tuple[str, str]:
    base, _, name = url.rstrip("/").rpartition("/")
    return (base, name) if name != "v2" else (url.rstrip("/"), _default_name(pipeline))


def _default_name(pipeline: str | None) -> str:
    return TEXT_GENERATION if pipeline == TEXT_GENERATION else MEDIA


def _read(path: Path) -> list[Endpoint]:
    try:
        return [Endpoint(**e) for e in json.loads(path.read_text())]
    except FileNotFoundError:
        return []
    except (ValueError, TypeError) as exc:
        raise InvalidInput(f"{path} is not the list of endpoints that `pilotlight up` writes; delete it") from exc
