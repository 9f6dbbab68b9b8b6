"""Which endpoints this machine serves, and which models their workers: by the environment, else the demo models."""

import json
from pathlib import Path
from typing import Any

from platforms.records import MEDIA
from shared.models import catalog
from shared.models.catalog import TEXT_GENERATION, Entry
from shared.settings import Settings

DEMO = "demo/"
NOTHING = dict.fromkeys(("PIPELINE", "MODEL_ID", "MODELS", "GGML_REPO", "GGML_FILE"), "")


def endpoints(settings: Settings, data: Path) -> dict[str, dict[str, str]]:
    """Endpoint ids, and what their workers' environment has besides this process's own.

    Text has an endpoint of its own, for only a worker whose pipelines all write text sends it in pieces. `PIPELINE`
    leaves one endpoint; so does a list of models that has text only, or none, but `HANDLERS` go with the pictures.

    Raises:
        InvalidInput: the environment's list of models cannot be read, or its variables contradict each other.
    """
    named = catalog.Catalog.from_settings(settings).entries if _names_models(settings) else []
    made = {MEDIA: _media(settings, named, data), TEXT_GENERATION: _text(settings, named)}
    if settings.pipeline:
        only = TEXT_GENERATION if _is_text(settings) else MEDIA
        return {only: made[only] or {}}  # a worker without a model says so
    return {name: env for name, env in made.items() if env is not None}


def _names_models(settings: Settings) -> bool:
    return any((settings.models, settings.model_id, settings.ggml_repo, settings.ggml_file))


def _media(settings: Settings, named: list[Entry], data: Path) -> dict[str, str] | None:
    if not (settings.models or settings.model_id):
        demo = [e for e in catalog.read(catalog.BUILT_IN) if e.model_id.startswith(DEMO)]
        warm = [e.model_copy(update={"warm": True}) for e in demo]
        return NOTHING | {"PIPELINE": settings.pipeline or "", "MODELS": _without_text(warm, data)}
    listed = catalog.read(settings.models) if settings.models and not settings.model_id else named
    if not any(map(_is_text, listed)):
        return {"GGML_REPO": "", "GGML_FILE": ""}
    if all(map(_is_text, listed)) and not settings.handlers:
        return None
    return NOTHING | {"PIPELINE": settings.pipeline or "", "MODELS": _without_text(listed, data)}


def _text(settings: Settings, named: list[Entry]) -> dict[str, str] | None:
    if not named and not settings.models:
        return NOTHING | {"PIPELINE": TEXT_GENERATION, "MODEL_ID": f"{DEMO}{TEXT_GENERATION}"}
    return {"PIPELINE": TEXT_GENERATION} if any(map(_is_text, named)) else None


def _is_text(of: Entry | Settings) -> bool:
    return of.pipeline == TEXT_GENERATION


def _without_text(entries: list[Entry], data: Path) -> str:
    """The entries of pictures, as a models.json in the data folder."""
    kept: list[dict[str, Any]] = [e.model_dump() for e in entries if not _is_text(e)]
    path = data / "models.json"
    path.write_text(json.dumps(kept, indent=1))
    return str(path.resolve())
