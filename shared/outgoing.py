"""What a job has made, on its way to where the job or the operator wants it."""

import contextlib
from dataclasses import dataclass
from typing import Any

from shared import logs, results
from shared.context import JobContext, Kept, refuse_what_nobody_carries
from shared.errors import ResultTooLarge
from shared.job import Job
from shared.media.deliver import Deliverer
from shared.plan import Plan
from shared.schemas import Output, of_media

BESIDE_OUTPUTS = 2048  # bytes of a serialised result that are neither outputs, metrics nor receipt
METRICS = 4096  # bytes of them and of a receipt without parameters, while they are not known
EARLY_INLINE = 48_000  # bytes of data URLs that a progress carries


@dataclass(frozen=True)
class Outgoing:
    """Judges the places that jobs name, and delivers to them."""

    deliverer: Deliverer

    def check_places(self, job: Job, plan: Plan) -> None:
        """Judge the places that a job names, before it costs device time.

        Raises:
            InvalidInput: they cannot be used.
        """
        if plan.envelope.delivery or job.s3_config:
            count = getattr(plan.params, "num_images_per_prompt", 1)
            self.deliverer.check(plan.envelope.delivery, job.s3_config, count)

    def most_bytes(self, job: Job, plan: Plan) -> int | None:
        """The largest output that this job can have carried away; None where there is a place for any."""
        if job.result_limit is None or self.deliverer.has_place(plan.envelope.delivery, job.s3_config):
            return None
        rest = BESIDE_OUTPUTS + METRICS + results.json_bytes(plan.params.as_record())
        return (job.result_limit - rest) * 3 // 4  # base64

    def check_room(self, job: Job, plan: Plan) -> None:
        """Refuse now what nobody could carry, as far as that can be foretold.

        Raises:
            ResultTooLarge: nobody could.
        """
        most = self.most_bytes(job, plan)
        if most is None or plan.handler.expected_bytes is None:
            return
        refuse_what_nobody_carries(plan.handler.expected_bytes(plan.params, job.check), most)

    def early(self, job: Job, plan: Plan, outputs: list[Output], first: int) -> list[str] | None:
        """Take a step's outputs to where they stay though the job fails; None where only a result carries them."""
        with contextlib.suppress(ResultTooLarge):
            return self.deliverer.deliver(
                job.id, outputs, plan.envelope.delivery, job.s3_config, EARLY_INLINE, first=first
            )
        return None

    def result(
        self,
        job: Job,
        plan: Plan,
        context: JobContext,
        outputs: list[Output],
        kept: list[tuple[dict[str, Any], Kept]],
        receipt: dict[str, Any],
    ) -> dict[str, Any]:
        """Deliver the outputs, and the result that shows them.

        Raises:
            ResultTooLarge, DeliveryFailed: they could not be delivered.
        """
        text, limit = results.of_text(context.written) if plan.handler.stream else {}, None
        if job.result_limit is not None:
            rest = {"metrics": context.metrics.as_dict(), "receipt": receipt}
            limit = job.result_limit - results.json_bytes(rest) - BESIDE_OUTPUTS
            if text:
                results.check_size({**rest, **text}, job.result_limit)
        context.report("delivering")
        begun = job.clock()
        waiting = [output for _, each in kept if each.urls is None for output in each.outputs]
        first = len(outputs_of(kept)) - len(waiting)
        urls = self.deliverer.deliver(
            job.id,
            [*waiting, *outputs],
            plan.envelope.delivery,
            job.s3_config,
            limit,
            first=first,
            keeps_files=job.keeps_files,
        )
        seconds = job.clock() - begun
        context.metrics.add("deliver", seconds)
        if urls:
            logs.stage("delivered", job.id, outputs=len(outputs), seconds=round(seconds, 3))
        late, urls = iter(urls[: len(waiting)]), urls[len(waiting) :]
        at = [each.urls or [next(late) for _ in each.outputs] for _, each in kept]
        steps = [{**named, **of_media(each.outputs, its)} for (named, each), its in zip(kept, at, strict=True)]
        return {
            **of_media(outputs, urls),
            **text,
            **({"steps": steps} if steps else {}),
            "metrics": context.metrics.as_dict(),
            "receipt": receipt,
        }


def outputs_of(kept: list[tuple[dict[str, Any], Kept]]) -> list[Output]:
    """All outputs of the steps that were kept, in their order."""
    return [output for _, each in kept for output in each.outputs]
