"""Texts that are cancelled, fail, or lose their worker in the middle."""

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from shared.errors import Cancelled, DeadlineExceeded, Internal, InvalidInput, OutOfMemory
from tests.platforms.harness import Endpoint
from tests.platforms.lab import is_gone, until
from tests.platforms.stage import WORDS, Stage
from tests.shared.media.loopback import Loopback, loopback, reply


def test_cancel_in_mid_stream_frees_the_device_for_the_next_job(stage: Stage) -> None:
    job, _ = stage.held(pieces=WORDS)
    following = stage.tell("next")
    assert stage.client.cancel(job)["status"] == "CANCELLED"
    stage.client.wait(following)
    assert stage.when("tale", "end") < stage.when("next", "start")
    assert stage.status(job) == "CANCELLED"
    assert stage.pieces(job) == [WORDS[0]]
    with pytest.raises(Cancelled):
        list(stage.client.stream(job))


def test_cancel_of_a_job_that_is_not_yet_begun_lets_it_say_nothing(stage: Stage) -> None:
    running, gate = stage.held("running")
    waiting = stage.tell("waiting")
    stage.client.cancel(waiting)
    gate.touch()
    stage.client.wait(running)
    stage.client.wait(stage.tell("next"))
    assert stage.starts("waiting") == 0
    assert stage.pieces(waiting) == []


def test_a_job_that_fails_leaves_its_pieces_to_be_read(stage: Stage) -> None:
    job, gate = stage.held(fail="the secret reason")
    gate.touch()
    heard: list[str] = []
    with pytest.raises(Internal) as caught:
        heard.extend(stage.client.stream(job))
    assert "".join(heard or stage.pieces(job)) == "one two three"
    assert "secret" not in str(caught.value)
    assert stage.status(job) == "FAILED"


def test_out_of_memory_in_the_middle_is_not_tried_again(stage: Stage) -> None:
    """What was heard cannot be taken back."""
    job = stage.tell(fail="CUDA out of memory. Tried to allocate 20.00 GiB.")
    with pytest.raises(OutOfMemory, match="middle of the text"):
        stage.client.wait(job)
    assert "".join(stage.pieces(job)) == "one two three"
    assert stage.starts("tale") == 1


def test_a_lost_device_fails_its_job_and_ends_its_worker(stage: Stage) -> None:
    (pid,) = stage.worker_pids()
    job = stage.tell(fail="CUDA error: an illegal memory access was encountered")
    with pytest.raises(Internal, match="device failed"):
        stage.client.wait(job)
    until(lambda: is_gone(pid), "the worker goes on without a device")
    stage.client.wait(stage.tell("next"))


def test_a_wrong_input_fails_with_what_is_wrong(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match=r"times: Input should be greater than or equal to 0"):
        stage.client.wait(stage.tell(times=-1))


def test_kill_9_in_mid_stream_runs_it_again_and_keeps_the_second_attempts_pieces_only(stage: Stage) -> None:
    job, gate = stage.held(pieces=WORDS)
    stage.signal_workers(signal.SIGKILL)
    stage.until_started("tale", 2)
    gate.touch()
    assert "".join(stage.client.wait(job)) == "".join(WORDS)
    assert "".join(stage.pieces(job)) == "".join(WORDS)
    assert stage.client.status(job)["retries"] == 1
    assert stage.starts("tale") == 2


def test_sigterm_in_mid_stream_finishes_the_text(stage: Stage) -> None:
    job, gate = stage.held(pieces=WORDS)
    (pid,) = stage.signal_workers(signal.SIGTERM)
    until(lambda: "SIGTERM: finishing" in stage.logs(), "the worker did not hear it")
    assert not is_gone(pid)
    gate.touch()
    assert "".join(stage.client.wait(job)) == "".join(WORDS)
    assert "retries" not in stage.client.status(job)
    until(lambda: is_gone(pid), "the worker did not end")


def test_a_job_over_its_time_stops_and_keeps_what_it_said(tmp_path: Path) -> None:
    with Stage(tmp_path, env={"JOB_TIMEOUT_S": "1"}) as stage:
        job, _ = stage.held()
        with pytest.raises(DeadlineExceeded):
            stage.client.wait(job)
        assert stage.pieces(job) == ["one "]
        stage.client.wait(stage.tell("next"))


def test_a_job_that_does_not_yield_the_device_ends_its_worker(tmp_path: Path) -> None:
    with Stage(tmp_path, env={"HANG_S": "0.5"}) as stage:
        (pid,) = stage.worker_pids()
        job, _ = stage.held(deaf=True)
        stage.client.cancel(job)
        until(lambda: is_gone(pid), "the worker goes on")
        stage.client.wait(stage.tell("next"))
        assert stage.status(job) == "CANCELLED"


def test_a_loss_after_a_piece_counts(endpoint: Endpoint) -> None:
    """A piece says, as a progress does, that the job has the device."""
    job = endpoint.submit()
    endpoint.take("w1")
    endpoint.piece(job, b'{"output":"a"}')
    endpoint.server.call(lambda: endpoint.desk.worker_lost("w1"))
    endpoint.take("w2")
    assert endpoint.status(job)["retries"] == 1
    assert endpoint.call("GET", f"stream/{job}?from=0&wait=1").json()["stream"] == []


class SlowStage(Stage):
    """Its worker posts its pieces to a place that answers when it is let go."""

    def __init__(self, folder: Path, posts: Loopback) -> None:
        super().__init__(folder, env={"RUNPOD_WEBHOOK_POST_STREAM": posts.url("/pieces?job=$ID")})
        self._posts = posts

    def posted(self) -> list[str]:
        return [json.loads(seen.body)["output"] for seen in self._posts.seen]


@pytest.fixture
def let_go() -> threading.Event:
    return threading.Event()


@pytest.fixture
def slow_stage(tmp_path: Path, let_go: threading.Event) -> Iterator[SlowStage]:
    def answer(request: BaseHTTPRequestHandler) -> None:
        let_go.wait(60)
        reply(200, headers={"Connection": "close"})(request)

    with loopback({"/pieces": answer}) as posts, SlowStage(tmp_path, posts) as stage:
        yield stage
        let_go.set()


def test_what_gathers_while_a_piece_is_posted_leaves_in_one(slow_stage: SlowStage, let_go: threading.Event) -> None:
    """The device does not wait for the network."""
    gate, said = slow_stage.gate(), slow_stage.folder / "said"
    job = slow_stage.tell(pieces=WORDS, gate=str(gate), said=str(said))
    until(slow_stage.posted, "no piece was posted")
    gate.touch()
    until(said.exists, "the device waits for the network")
    let_go.set()
    slow_stage.client.wait(job)
    assert slow_stage.posted() == [WORDS[0], "".join(WORDS[1:])]


def test_a_cancel_while_a_piece_is_posted_frees_the_device(slow_stage: SlowStage, let_go: threading.Event) -> None:
    """The SDK drops its generator then, and tells it nothing."""
    gate = slow_stage.gate()
    job = slow_stage.tell(gate=str(gate))
    until(slow_stage.posted, "no piece was posted")
    slow_stage.client.cancel(job)
    until(lambda: "tale end" in slow_stage.diary_path.read_text(), "the job goes on")
    let_go.set()
    assert "".join(slow_stage.client.wait(slow_stage.tell("next"))) == "one two three"
    assert slow_stage.status(job) == "CANCELLED"
    assert "Traceback" not in slow_stage.logs()
