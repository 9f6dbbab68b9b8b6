"""A worker in RunPod's protocol that starts at once, takes jobs one by one, and says which process it is."""

import contextlib
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

POD = os.environ["RUNPOD_POD_ID"]


class Worker:
    """Loads nothing; hangs at the start while a model's folder holds a file `slow`, ends where it holds `broken`."""

    def __init__(self) -> None:
        self.job = ""
        self.is_closing = False

    def call(self, variable: str, job_id: str = "", body: dict[str, Any] | None = None) -> bytes:
        url = os.environ[variable].replace("$RUNPOD_POD_ID", POD).replace("$ID", job_id or POD)
        if variable == "RUNPOD_WEBHOOK_PING" and self.job:
            url += f"?job_id={self.job}"
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": os.environ["RUNPOD_AI_API_KEY"]}
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=30) as answer:
            return bytes(answer.read())

    def close(self, *_: object) -> None:
        self.is_closing = True
        if not self.job:
            os._exit(0)

    def ping(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                self.call("RUNPOD_WEBHOOK_PING")
            time.sleep(0.2)

    def run(self) -> None:
        while not self.is_closing:
            if taken := self.call("RUNPOD_WEBHOOK_GET_JOB"):
                job = json.loads(taken)
                self.job = job["id"]
                self.call("RUNPOD_WEBHOOK_POST_OUTPUT", self.job, {"output": self.work(job["input"])})
                self.job = ""

    def work(self, given: dict[str, Any]) -> dict[str, Any]:
        time.sleep(given.get("ms", 0) / 1000)
        while given.get("gate") and not Path(given["gate"]).exists():
            time.sleep(0.005)
        return {"metrics": {"pid": os.getpid(), "card": os.environ["CUDA_VISIBLE_DEVICES"]}}


def main() -> None:
    models = json.loads(Path(os.environ["MODELS"]).read_text())
    while any((Path(model["model_id"]) / "slow").exists() for model in models):
        time.sleep(0.005)
    if any((Path(model["model_id"]) / "broken").exists() for model in models):
        sys.exit(1)
    worker = Worker()
    signal.signal(signal.SIGTERM, worker.close)
    threading.Thread(target=worker.ping, daemon=True).start()
    worker.run()


if __name__ == "__main__":
    main()
