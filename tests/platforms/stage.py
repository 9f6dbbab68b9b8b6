"""An endpoint whose worker tells texts."""

import json
from pathlib import Path
from typing import Any

import requests

from tests.platforms.lab import Lab, until
from tests.shared.models.folders import write_files

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
WORDS = [f"{n} " for n in range(200)]


class Stage(Lab):
    """A lab whose worker tells texts, and nothing else."""

    def __init__(self, folder: Path, *, pipeline: str | None = "tell", **more: Any) -> None:
        models = folder / "tell.json"
        entry = {"pipeline": "tell", "model_id": str(write_files(folder / "model"))}
        models.write_text(json.dumps([entry]))
        env = {"MODELS": str(models), "RECEIPT_KEY": KEY, **({"PIPELINE": pipeline} if pipeline else {})}
        super().__init__(folder, **{**more, "env": {**env, **more.get("env", {})}})
        self.folder = folder

    def tell(self, name: str = "tale", **more: Any) -> str:
        return self.client.submit({"pipeline": "tell", "name": name, "diary": str(self.diary_path), **more})

    def gate(self) -> Path:
        """A file that is not there yet."""
        return self.folder / f"{self.diary_path.name}-gate-{len(list(self.folder.glob('*')))}"

    def held(self, name: str = "tale", **more: Any) -> tuple[str, Path]:
        """A job that has said its first piece, which was heard, and waits for its gate."""
        gate = self.gate()
        job = self.tell(name, gate=str(gate), **more)
        until(lambda: self.pieces(job), "no piece arrived")
        return job, gate

    def stream(self, job: str, **params: Any) -> dict[str, Any]:
        """One look at the stream."""
        headers = {"Authorization": f"Bearer {self.endpoint.key}"}
        url = f"{self.endpoint.url}/media/stream/{job}"
        answer = requests.get(url, params={"wait": 1, **params}, headers=headers, timeout=30)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def pieces(self, job: str) -> list[Any]:
        """All pieces so far."""
        return [piece["output"] for piece in self.stream(job, **{"from": 0})["stream"]]

    def ask(self, path: str, body: dict[str, Any] | None = None) -> requests.Response:
        """A request to OpenAI's API."""
        headers = {"Authorization": f"Bearer {self.endpoint.key}"}
        url = f"{self.endpoint.url}/media/openai/v1/{path}"
        return requests.request("POST" if body else "GET", url, json=body, headers=headers, timeout=60)
