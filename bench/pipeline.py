"""One pipeline over the worker's own runner, in this process: loading, memory, and the time of each run.

python -m bench.pipeline --pipeline text-to-image --model_id demo/text-to-image --runs 3 --num_inference_steps 8
python scripts/bench.py ...    # the same, from any folder
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import handlers
from platforms.transfers import bar
from shared.device import Device
from shared.errors import ENDINGS, InvalidInput
from shared.job import Job
from shared.media.image import encode_image
from shared.media.source import data_url
from shared.models.catalog import Entry
from shared.runner import Runner
from shared.schemas import Handler
from shared.settings import Settings

PROMPT = "a red circle on a blue background"
GIB = 2**30


@dataclass(frozen=True)
class Run:
    """One job: its seconds on the device, what it made, and the most memory that it held, in bytes."""

    seconds: float
    outputs: int
    what: str
    peak: int | None

    @classmethod
    def of(cls, result: dict[str, Any]) -> "Run":
        """What a result tells of its job."""
        metrics = result["metrics"]
        images = len(result.get("images", ()))
        return cls(metrics["run_s"], images or 1, "image" if images else "text", metrics.get("peak_memory_bytes"))


class Bench:
    """A runner that serves one model of one pipeline."""

    def __init__(self, settings: Settings, pipeline: str, model_id: str) -> None:
        """Raises:
        NotFound, InvalidInput: there is no such pipeline.
        """
        self._registry = handlers.Folders(settings.handlers)
        self.handler: Handler = self._registry.get(pipeline)
        only = settings.model_copy(update={"pipeline": pipeline, "model_id": model_id})
        self._runner = Runner(only, self._registry)
        self.entry: Entry = self._runner.planner.catalog.resolve(pipeline, model_id)

    @property
    def device(self) -> Device:
        """Where it runs."""
        return self._runner.device()

    def load(self) -> tuple[float, int]:
        """Put the model on the device; returns seconds, without a download, and the most bytes held meanwhile.

        Raises:
            InvalidInput: the pipeline has no model.
            ModelUnavailable: it is not here and cannot be fetched, or not be loaded.
        """
        if self.handler.load is None:
            raise InvalidInput(f"'{self.entry.pipeline}' loads no model; there is nothing to measure")
        with bar(self.entry.model_id) as show:
            source = self._runner.store.ensure(self.entry, on_download=show)
        self.device.reset_peak()
        begun = time.perf_counter()
        with self._runner.pool.acquire(self.handler.load, source):
            return time.perf_counter() - begun, self.device.peak_memory()

    def run(self, given: dict[str, Any]) -> Run:
        """One job, from its input to its result; raises the Ending that it has."""
        named = {"pipeline": self.entry.pipeline, "model_id": self.entry.model_id}
        return Run.of(self._runner.submit(Job("bench", {**named, **given})).result())

    def input(self, prompt: str, steps: int | None, batch: int) -> dict[str, Any]:
        """The input of each run: what was asked for, where the pipeline has a parameter for it, and a picture drawn.

        Raises:
            InvalidInput: it has none for what was asked.
        """
        fields = self.handler.params.model_fields
        given: dict[str, Any] = {"prompt": prompt} if "prompt" in fields else {}
        if "image" in fields:
            given["image"] = _picture(*(int(self.entry.defaults.get(side, 512)) for side in ("width", "height")))
        asked = {"num_inference_steps": steps, "num_images_per_prompt": batch if batch > 1 else None}
        for name, value in asked.items():
            if value is not None and name not in fields:
                raise InvalidInput(f"'{self.entry.pipeline}' has no parameter {name}")
        return given | {name: value for name, value in asked.items() if value is not None}


def _picture(width: int, height: int) -> str:
    """A data URL of a shape on a flat background."""
    from PIL import Image

    from templates.demo_models.train.shapes import Scene, draw

    pixels = draw(Scene("circle", "red", "blue"), width=width, height=height)
    return data_url(encode_image(Image.fromarray(pixels), "png"), "image/png")


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print; exit code 1, and why, where the model or its input cannot be used."""
    args = _arguments(argv)
    try:
        measure(args, print)
    except ENDINGS as error:
        sys.exit(str(error))


def measure(args: argparse.Namespace, tell: Callable[[str], None]) -> None:
    """Load, warm up as a worker does, run, and tell each figure as it is known."""
    bench = Bench(Settings.from_env(), args.pipeline, args.model_id)
    given = bench.input(args.prompt, args.num_inference_steps, args.batch_size)
    load_s, load_peak = bench.load()
    tell(f"{bench.entry.pipeline} with {bench.entry.model_id} on {bench.device.kind}")
    tell(f"pipeline load time: {load_s:.3f} s")
    tell(f"pipeline load max GPU memory: {_gpu(bench.device, load_peak)}")
    if bench.handler.warmup:
        tell(f"warm-up, not counted: {bench.run(bench.handler.warmup).seconds:.3f} s")
    runs = []
    for number in range(1, args.runs + 1):
        runs.append(bench.run(given))
        tell(f"inference {number} of {args.runs}: {runs[-1].seconds:.3f} s")
    what, outputs = runs[0].what, runs[0].outputs
    tell(f"inference max GPU memory: {_gpu(bench.device, max(run.peak or 0 for run in runs))}")
    tell(f"average inference time per run: {mean(run.seconds for run in runs):.3f} s")
    tell(f"average inference time per {what}: {mean(run.seconds for run in runs) / outputs:.3f} s")


def _gpu(device: Device, peak: int) -> str:
    return f"{peak / GIB:.3f} GiB" if device.kind == "cuda" and device.torch else "n/a"


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pipeline", required=True, help="such as text-to-image")
    parser.add_argument("--model_id", "--model-id", required=True, help="a hub id, demo/..., or a folder")
    parser.add_argument("--runs", type=_count, default=1, help="runs that are measured (default: %(default)s)")
    parser.add_argument("--num_inference_steps", "--num-inference-steps", type=_count, help="default: the model's")
    parser.add_argument(
        "--batch_size", "--batch-size", type=_count, default=1, help="images of a run (default: %(default)s)"
    )
    parser.add_argument("--prompt", default=PROMPT, help="default: %(default)s")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number from 1 on")
    return int(text)


if __name__ == "__main__":
    main()
