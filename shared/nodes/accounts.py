"""What this worker states of a job that a node ran: its own receipt, around the node's."""

from typing import Any

from shared import receipts, results
from shared.context import Written
from shared.job import Job
from shared.nodes.answer import Answer
from shared.nodes.request import record
from shared.plan import Plan
from shared.settings import Settings


def receipt(
    job: Job, plan: Plan, answer: Answer, written: Written, times: receipts.Times, settings: Settings
) -> dict[str, Any]:
    """The receipt of a forwarded job, not yet signed.

    Its parameters are those that were sent, its outputs the files that came through this worker. What was run in the
    end, by which software, and what lies at links, the node's own receipt says, with its signature, under `node`.
    """
    text = [results.text_output(str(written), _seed(answer))] if plan.handler.stream else []
    return receipts.make(
        job_id=job.id,
        pipeline=plan.pipeline,
        model=model(plan, answer),
        params=record(plan),
        outputs=text or answer.outputs,
        steps=_steps(answer, written),
        times=times,
        worker=settings.worker_id,
        image_digest=settings.image_digest,
        software={},
        node=answer.as_record(),
    )


def model(plan: Plan, answer: Answer) -> dict[str, str] | None:
    """The model as the node names it, else as models.json does; None for a pipeline that has none."""
    if plan.handler.load is None or plan.entry is None:
        return None
    return answer.model or {"id": plan.entry.full_id, "revision": plan.entry.revision}


def _steps(answer: Answer, written: Written) -> int:
    stated = (answer.receipt or {}).get("steps")
    return (written.usage or {}).get("completion_tokens", stated if isinstance(stated, int) else 0)


def _seed(answer: Answer) -> int | None:
    seed = (answer.receipt or {}).get("seed")
    return seed if isinstance(seed, int) else None
