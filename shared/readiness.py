"""What must hold before a worker takes its first job, from the cheapest check to the models themselves."""

from collections.abc import Callable

from shared import device as devices
from shared import logs
from shared.errors import InsufficientCapacity
from shared.models.fitness import unfit
from shared.runner import Runner

WITHOUT = "a container gets its cards by `docker run --gpus all`; DEVICE=cpu does without"


def checks(runner: Runner) -> tuple[Callable[[], None], ...]:
    """Each raises where the worker is not fit; in this order.

    Raises, when called:
        JobError: naming what is wrong with the volume, a model or the device.
    """

    def volume_is_writable() -> None:
        if any(runner.store.find(entry) is None for entry in runner.planner.catalog.local):
            runner.store.write_root()

    def models_on_the_volume_are_whole() -> None:
        damaged = list(unfit(runner.store, runner.planner.catalog))
        for model in damaged:
            about = {"model": model.entry.model_id, "pipeline": model.entry.pipeline, "reason": model.error.message}
            logs.logger.warning("a model is damaged", extra={"fields": about})
        for model in damaged:
            if model.is_default:
                raise model.error

    def warm_models_can_be_had() -> None:
        for entry in runner.planner.catalog.local:
            if entry.warm:
                runner.store.check(entry)

    def device_works() -> None:
        if not runner.planner.catalog.local:
            return
        if runner.planner.torch_free:
            _look(runner.device(), runner.settings.device)
        else:
            with runner.pool.loading.of("the device"):
                _try(runner.device(), runner.settings.device)

    def models_run() -> None:
        runner.warm()

    return (
        volume_is_writable,
        models_on_the_volume_are_whole,
        warm_models_can_be_had,
        device_works,
        models_run,
    )


def _try(device: devices.Device, asked: str) -> None:
    try:
        devices.works(device)
    except Exception as exc:
        why = (str(exc).splitlines() or [type(exc).__name__])[0]
        raise InsufficientCapacity(f"nothing can be run on {device.kind}: {why}; {WITHOUT}") from exc
    _say_without(device, asked)


def _look(device: devices.Device, asked: str) -> None:
    """As `_try`, by the driver: models that need no torch run on the CPU, without a word, where there is no card."""
    if device.kind == "cuda" and not devices.cards():
        raise InsufficientCapacity(f"nothing can be run on cuda: its driver shows no card; {WITHOUT}")
    _say_without(device, asked)


def _say_without(device: devices.Device, asked: str) -> None:
    if (device.kind, asked) == ("cpu", "auto"):
        logs.logger.warning("no card is to be seen: models run on the CPU")
