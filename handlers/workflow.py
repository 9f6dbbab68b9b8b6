"""Chain pipelines in one job: each step takes what the one before it made."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from pydantic import Field, model_validator

from shared.errors import InvalidInput, JobError
from shared.media.image import ImageInput
from shared.media.source import MediaInput
from shared.media.video import VideoInput
from shared.schemas import MAX_SEED, Context, Handler, Kind, Made, MadeVideo, Params, Planning

MOST_STEPS = 8
MOST_IMAGES = 8  # of a step; image k is drawn from seed + k
REFERENCE = re.compile(r"\$steps\.(\d+)(?:\.(?:images|videos)(?:\.(\d+))?)?")
Step = dict[str, Any]
Results = Sequence[Any]  # what a step made, or stand-ins for it


class WorkflowParams(Params):
    """Which pipelines run, one after the other, as one job."""

    steps: list[Step] = Field(
        min_length=1,
        max_length=MOST_STEPS,
        description="Each a `pipeline` with its parameters. A step takes what the one before it made, or what it "
        "names: `$steps.0`, `$steps.0.images.1`.",
    )
    prompt: str | None = Field(
        None,
        min_length=1,
        max_length=8000,
        description="In place of `steps`: draw this, let it move at 24 frames a second, twice as large.",
    )
    seed: int | None = Field(
        None, ge=0, le=MAX_SEED - MOST_IMAGES, description="Of every step that takes one and names none."
    )
    keep: bool = Field(
        False,
        description="Deliver what each step makes as soon as it is made, also for a job that is cancelled or fails "
        "later; `steps` of the result, or `kept` of the progress, says where.",
    )

    @model_validator(mode="before")
    @classmethod
    def _prompt_means_steps(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("prompt") is None:
            return given
        if given.get("steps") is not None:
            raise ValueError("give either steps or prompt")
        return {**given, "steps": film_of(given["prompt"])}

    def as_record(self) -> dict[str, Any]:
        """The steps as they were run; a prompt is in the first of them."""
        record = super().as_record()
        return {"steps": record["steps"], "keep": record["keep"]}


def film_of(prompt: Any) -> list[Step]:
    """The steps from a prompt to a film."""
    return [
        {"pipeline": "text-to-image", "prompt": prompt},
        {"pipeline": "image-to-video", "target_fps": 24},
        {"pipeline": "upscale", "scale": 2},
    ]


def validate(params: WorkflowParams, planning: Planning) -> None:
    """Check every step before the first one runs, with stand-ins for what the others are to make.

    What a step takes without saying so is written into it; files that it names are put in as parameters, for the
    runner to fetch.
    """
    stand_ins: list[Results] = []
    for number, step in enumerate(params.steps):
        with _named(number, step):
            handler = planning.handler(str(step.get("pipeline")))
            if handler.stream or handler.chains:
                raise InvalidInput("it answers in text" if handler.stream else "a workflow is no step of another one")
            _take_the_last(step, handler, stand_ins)
            if params.seed is not None and "seed" in handler.params.model_fields:
                step["seed"] = params.seed if step.get("seed") is None else step["seed"]
            planned = planning.plan(step["pipeline"], _filled(step, stand_ins))
            for name, value in step.items():
                if _is_media(found := getattr(planned, name, None)):
                    step[name] = _without_stand_ins(value, found)
            stand_ins.append(_stand_ins(handler.output(planned), getattr(planned, "num_images_per_prompt", 1)))


def run(model: None, params: WorkflowParams, ctx: Context) -> None:
    """Run one step after the other, and emit what the last one made."""
    made: list[list[Made | MadeVideo]] = []
    share = 1 / len(params.steps)
    for number, step in enumerate(params.steps):
        with _named(number, step):
            span = (number * share, (number + 1) * share)
            made.append(ctx.run(step["pipeline"], _filled(step, [_contents(each) for each in made]), span=span))
            if params.keep and number + 1 < len(params.steps):
                ctx.keep(number, made[-1])
    for result in made[-1]:
        ctx.emit(result)


@contextmanager
def _named(number: int, step: Step) -> Iterator[None]:
    """Errors of a step say which it is."""
    try:
        yield
    except JobError as exc:
        name = str(step.get("pipeline"))[:64]
        raise type(exc)(f"steps.{number} ({name}): {exc.message}", **{**exc.detail, "step": number}) from exc


def _take_the_last(step: Step, handler: Handler, made: Sequence[Results]) -> None:
    """Let the step refer to what the one before it makes, unless it names a file, or takes none."""
    takes = [name for name in ("image", "video", "images") if name in handler.params.model_fields]
    if not made or not takes or any(step.get(name) is not None for name in takes):
        return
    last, reference = made[-1], f"$steps.{len(made) - 1}"
    if isinstance(last[0], VideoInput):
        step["video"] = reference
    elif "images" in takes and ("image" not in takes or len(last) > 1):
        step["images"] = reference
    else:
        step["image"] = reference


def _filled(step: Step, made: Sequence[Results]) -> dict[str, Any]:
    """The step's parameters, with what other steps made in place of references to it."""
    return {name: _resolved(name, value, made) for name, value in step.items() if name != "pipeline"}


def _resolved(name: str, value: Any, made: Sequence[Results]) -> Any:
    if isinstance(value, list):
        return [_resolved("", each, made) for each in value]
    if not _is_reference(value):
        return value
    found = REFERENCE.fullmatch(value)
    if found is None or int(found[1]) >= len(made):
        raise InvalidInput(
            f"{name}: '{value[:64]}' names no step before this one; write $steps.0, or $steps.0.images.1"
        )
    results = made[int(found[1])]
    if name == "images" and found[2] is None:
        return list(results)
    index = int(found[2] or 0)
    if index >= len(results):
        raise InvalidInput(f"{name}: '{value[:64]}' is more than that step makes, which are {len(results)}")
    return results[index]


def _without_stand_ins(given: Any, found: Any) -> Any:
    """The files that a step names, as parameters; its references as they are."""
    if isinstance(given, list):
        return [_without_stand_ins(*pair) for pair in zip(given, found, strict=True)]
    return given if _is_reference(given) else found


def _is_reference(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("$steps")


def _is_media(value: Any) -> bool:
    if isinstance(value, list):
        return bool(value) and all(map(_is_media, value))
    return isinstance(value, MediaInput)


def _contents(made: Sequence[Made | MadeVideo]) -> Results:
    return [each.image if isinstance(each, Made) else each.video for each in made]


def _stand_ins(kind: Kind, count: int) -> Results:
    stands: Callable[[], MediaInput] = VideoInput.to_come if kind == "video" else ImageInput.to_come
    return [stands() for _ in range(1 if kind == "video" else count)]


handler = Handler(params=WorkflowParams, run=run, validate=validate, torch=False, chains=True)
