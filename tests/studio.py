"""Endpoints with one real RunPod worker each: on the demo models of pictures, and on that of text."""

import json
import re
from pathlib import Path

from platforms.local.up import LocalEndpoint
from shared.jobs.client import Client
from shared.models.catalog import TEXT_GENERATION

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "your-own-pipeline.md"


def write_page_handler(folder: Path) -> Path:
    """The page's Python block as the file that the page says to save; returns its folder."""
    text = PAGE.read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (name,) = re.findall(r"Save it as `(.*?)`", text)
    file = folder / str(name)
    file.parent.mkdir(parents=True)
    file.write_text(code)
    return file.parent


def demo_models(folder: Path) -> Path:
    """A models.json with the demo models of pictures and videos; the one that draws is warm."""
    entries = json.loads((ROOT / "templates" / "models.json").read_text())
    demo = [e for e in entries if e["model_id"].startswith("demo/") and e["pipeline"] != TEXT_GENERATION]
    path = folder / "models.json"
    path.write_text(json.dumps([{**e, "warm": e["model_id"] == "demo/text-to-image"} for e in demo]))
    return path


class Studio:
    """The endpoint of pictures, with the pipeline of docs/your-own-pipeline.md, and its client."""

    def __init__(self, folder: Path, **env: str) -> None:
        handlers = str(write_page_handler(folder))
        self.endpoint = LocalEndpoint(
            folder / "data",
            env={"HANDLERS": handlers, "MODELS": str(demo_models(folder)), "OMP_NUM_THREADS": "1", **env},
        )
        self.client = Client(self.endpoint.url, "media", self.endpoint.key)


class TextStudio:
    """Endpoint `text-generation`, whose worker does two jobs at once, and its client."""

    def __init__(self, folder: Path, **env: str) -> None:
        own = {"PIPELINE": TEXT_GENERATION, "MODEL_ID": "demo/text-generation", "GGML_PARALLEL": "2"}
        self.endpoint = LocalEndpoint(folder / "data", endpoints={TEXT_GENERATION: {**own, **env}})
        self.client = Client(self.endpoint.url, TEXT_GENERATION, self.endpoint.key)

    @property
    def openai_url(self) -> str:
        """What OpenAI's clients call the base URL."""
        return f"{self.endpoint.url}/{TEXT_GENERATION}/openai/v1"
