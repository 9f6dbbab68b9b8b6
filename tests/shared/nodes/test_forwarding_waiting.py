"""Jobs that wait for a place on a node, and those that are stopped there."""

import threading
from pathlib import Path

import pytest

from shared.errors import Cancelled, DeadlineExceeded, InsufficientCapacity, JobError
from shared.job import Job
from tests.clock import Clock
from tests.shared.nodes.fronts import WAIT_S, front, run, until, waiting
from tests.shared.nodes.stand_in import WARM, Answer, StandIn, drawn, refused


def test_who_waits_for_a_place_does_not_fail_with_whom_the_node_refused(tmp_path: Path) -> None:
    clock, held = Clock(), threading.Event()
    answers = [
        Answer(body=drawn(), hold=held),
        Answer(429, refused(429, "queue_full").body, {"Retry-After": "7"}, hold=held),
    ]
    with StandIn(*answers) as node:
        runner = front(tmp_path, node.url, clock=clock)
        futures = []
        for n in range(3):
            futures.append(runner.submit(Job(f"job-{n}", {"pipeline": "draw"})))
            until(lambda n=n: len(node.posts()) + waiting(runner) == n + 1)
        held.set()
        futures[0].result(WAIT_S)
        with pytest.raises(JobError) as full:
            futures[1].result(WAIT_S)
        assert full.value.code == "queue_full"
        clock.advance(7.1)
        assert futures[2].result(WAIT_S)["images"]


def test_a_job_of_a_queue_waits_until_a_node_may_be_asked_again(tmp_path: Path) -> None:
    """Else a queue would be emptied into failures while its only node is started anew."""
    clock = Clock()
    with StandIn(Answer(drop=True)) as node:
        runner = front(tmp_path, node.url, clock=clock)
        with pytest.raises(InsufficientCapacity, match="gone"):
            run(runner)
        future = runner.submit(Job("job", {"pipeline": "draw"}, can_recur=True))
        until(lambda: waiting(runner) == 1)
        clock.advance(1.1)
        assert future.result(WAIT_S)["images"]
        assert len(node.posts()) == 2


def test_a_cancel_hangs_up_and_no_other_node_is_asked(tmp_path: Path) -> None:
    with StandIn(Answer(hold=threading.Event()), about=WARM) as node, StandIn() as other:
        job = Job("job", {"pipeline": "draw"})
        future = front(tmp_path, node.url, other.url).submit(job)
        until(node.posts)
        job.cancel.cancel("enough")
        with pytest.raises(Cancelled, match="enough"):
            future.result(WAIT_S)
        assert node.hung_up.wait(WAIT_S)
    assert other.posts() == []


def test_a_cancel_has_happened_when_it_is_answered(tmp_path: Path) -> None:
    left_the_device = threading.Event()
    with StandIn(Answer(hold=threading.Event())) as node:
        node.cancelled.hold = left_the_device
        job = Job("job", {"pipeline": "draw"})
        future = front(tmp_path, node.url).submit(job)
        until(node.posts)
        job.cancel.cancel("enough")
        until(node.cancels)
        assert not future.done()
        left_the_device.set()
        with pytest.raises(Cancelled) as stopped:
            future.result(WAIT_S)
    assert node.cancels() == [node.posts()[0].headers["X-Job-Id"]]
    assert stopped.value.message == "enough"


GONE = refused(404, "not_found")
SILENT = [Answer(drop=True), Answer(404, {"detail": "Not Found"}), Answer(500, b"")]


@pytest.mark.parametrize("answer", [GONE, *SILENT], ids=["gone", "lost", "another program", "broken"])
def test_or_says_that_it_may_not_have(tmp_path: Path, answer: Answer) -> None:
    with StandIn(Answer(hold=threading.Event())) as node:
        node.cancelled = answer
        job = Job("job", {"pipeline": "draw"})
        future = front(tmp_path, node.url).submit(job)
        until(node.posts)
        job.cancel.cancel("enough")
        with pytest.raises(Cancelled) as stopped:
            future.result(WAIT_S)
    assert stopped.value.message.endswith("has not confirmed that it stopped") == (answer is not GONE)


def test_a_deadline_hangs_up_too(tmp_path: Path) -> None:
    with StandIn(Answer(hold=threading.Event())) as node:
        job = Job("job", {"pipeline": "draw"}, timeout_s=0.1)
        with pytest.raises(DeadlineExceeded):
            front(tmp_path, node.url).submit(job).result(WAIT_S)
        assert node.hung_up.wait(WAIT_S)
    assert node.posts()[0].headers["X-Job-Timeout"] == "0.1"
    assert len(node.cancels()) == 1


def test_a_step_waits_on_its_node_no_longer_than_its_chain_may_run(tmp_path: Path) -> None:
    """Else the chain would keep the device beyond its time, and its worker be taken for stuck."""
    held = threading.Event()
    with StandIn(otherwise=Answer(body=drawn(), hold=held)) as node:
        job = Job("job", {"pipeline": "pair"}, timeout_s=0.4)
        future = front(tmp_path, node.url).submit(job)
        until(node.posts)
        too_late = threading.Timer(0.6, held.set)
        too_late.start()
        with pytest.raises(DeadlineExceeded):
            future.result(WAIT_S)
        assert node.hung_up.wait(2)  # before it answered
        too_late.cancel()


def test_a_node_has_one_job_more_than_it_runs_and_the_others_wait_in_their_order(tmp_path: Path) -> None:
    holds = [threading.Event() for _ in range(5)]
    with StandIn(*(Answer(body=drawn(), hold=hold) for hold in holds)) as node:
        runner = front(tmp_path, node.url)
        futures = []
        for n in range(5):
            futures.append(runner.submit(Job(f"job-{n}", {"pipeline": "draw", "prompt": str(n)})))
            until(lambda n=n: len(node.posts()) == min(2, n + 1) and waiting(runner) == max(0, n - 1))
        for n, hold in enumerate(holds):
            hold.set()
            futures[n].result(WAIT_S)
            until(lambda n=n: len(node.posts()) == min(5, n + 3))
    assert [asked.body["prompt"] for asked in node.posts()] == list("01234")


def test_a_job_that_waits_for_a_place_can_be_cancelled(tmp_path: Path) -> None:
    held = threading.Event()
    with StandIn(*(Answer(body=drawn(), hold=held) for _ in range(2))) as node:
        runner = front(tmp_path, node.url)
        running = [runner.submit(Job(f"job-{n}", {"pipeline": "draw"})) for n in range(2)]
        until(lambda: len(node.posts()) == 2)
        job = Job("waits", {"pipeline": "draw"})
        future = runner.submit(job)
        until(lambda: waiting(runner) == 1)
        job.cancel.cancel("enough")
        with pytest.raises(Cancelled):
            future.result(WAIT_S)
        held.set()
        for each in running:
            each.result(WAIT_S)
    assert len(node.posts()) == 2
