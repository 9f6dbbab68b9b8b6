"""Text in pieces, through the SDK's generator and the real worker: in order, whole, and nothing after the end."""

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests

from platforms.runpod.stream import PIECE_LIMIT
from shared import receipts
from shared.errors import Cancelled, DeadlineExceeded, Internal, InvalidInput, OutOfMemory, ResultTooLarge
from tests.platforms.harness import Endpoint
from tests.platforms.lab import Lab, is_gone, until
from tests.shared.media.loopback import Loopback, loopback, reply
from tests.shared.models.folders import write_files

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
WORDS = [f"{n} " for n in range(200)]
MARKS = ["a\u0301", "日本", "\U0001f468\u200d\U0001f469", "\x00\x1f", '"\\', "\u2028", "é", "\U0001d518"]


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


@pytest.fixture(scope="module")
def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with Stage(tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    shared_stage.new_diary()
    shared_stage.until_idle()
    return shared_stage


def test_a_piece_arrives_while_the_job_runs_and_the_others_follow_in_order(stage: Stage) -> None:
    job, gate = stage.held(pieces=WORDS)
    assert stage.pieces(job) == [WORDS[0]]
    assert stage.status(job) == "IN_PROGRESS"
    gate.touch()
    assert "".join(stage.client.stream(job)) == "".join(WORDS)


def test_nothing_is_lost_for_a_second_reader_or_after_the_end(stage: Stage) -> None:
    job = stage.tell(pieces=WORDS)
    first = list(stage.client.stream(job))
    assert "".join(first) == "".join(WORDS)
    assert stage.pieces(job) == first
    assert stage.client.wait(job) == first


def test_no_progress_is_posted_between_pieces_or_after_them(stage: Stage) -> None:
    """The end would wait for it. The endpoint numbers all that it is told of a job."""
    gate = stage.gate()
    job = stage.tell(pieces=WORDS, gate=str(gate), hold=0)
    stage.until_start_is_known(job)
    gate.touch()
    stage.client.wait(job)
    view = stage.stream(job, **{"from": 0})
    numbers = [piece["n"] for piece in view["stream"]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert view["next"] == numbers[-1] + 2, "the last piece, then the end"


def test_pieces_are_strings_without_anything_else(stage: Stage) -> None:
    assert stage.client.wait(stage.tell(pieces=["a"])) == ["a"]


def test_details_are_the_last_piece(stage: Stage) -> None:
    *text, details = stage.client.wait(stage.tell(pieces=["a", "b"], details=True))
    assert "".join(text) == "ab"
    assert details.keys() == {"usage", "finish_reason", "metrics", "receipt"}
    assert (details["usage"], details["finish_reason"]) == ({"completion_tokens": 2}, "stop")
    assert receipts.verify(details["receipt"], details["receipt"]["public_key"])
    assert details["receipt"]["outputs"][0]["bytes"] == 2


@pytest.mark.parametrize("pieces", [WORDS, [""], []], ids=["words", "empty", "none"])
def test_without_stream_the_text_comes_at_once(stage: Stage, pieces: list[str]) -> None:
    assert stage.client.wait(stage.tell(pieces=pieces, stream=False)) == ["".join(pieces)]


def test_without_stream_nothing_leaves_before_the_end(stage: Stage) -> None:
    gate = stage.gate()
    job = stage.tell(pieces=WORDS, stream=False, gate=str(gate))
    stage.until_start_is_known(job)
    assert stage.pieces(job) == []
    gate.touch()
    assert stage.client.wait(job) == ["".join(WORDS)]


def test_an_empty_text_is_one_empty_piece(stage: Stage) -> None:
    assert stage.client.wait(stage.tell(pieces=[""], times=5)) == [""]


@pytest.mark.parametrize("stream", [True, False])
def test_pieces_are_at_most_900_kb_of_json_each(stage: Stage, stream: bool) -> None:
    text = '日"' * 200_000 + "\n" * 300_000
    pieces = stage.client.wait(stage.tell(pieces=[text], stream=stream))
    assert "".join(pieces) == text
    sizes = [len(json.dumps({"output": piece}, ensure_ascii=False).encode()) for piece in pieces]
    assert len(sizes) == 2
    assert max(sizes) <= PIECE_LIMIT


def test_every_character_arrives_as_it_was(stage: Stage) -> None:
    assert "".join(stage.client.wait(stage.tell(pieces=MARKS, times=50))) == "".join(MARKS) * 50


def test_half_a_character_is_refused_where_it_is_given(stage: Stage) -> None:
    with pytest.raises(InvalidInput, match="surrogate"):
        stage.client.wait(stage.tell(pieces=["\ud83d"]))


def test_a_text_that_the_platform_does_not_carry_ends_the_job_and_says_so(stage: Stage) -> None:
    job = stage.tell(pieces=["x" * 800_000], times=13)
    with pytest.raises(ResultTooLarge, match="carries"):
        stage.client.wait(job)
    assert "".join(stage.pieces(job)) == "x" * 800_000 * 12


def test_a_sync_job_streams_too_and_carries_twice_as_much(stage: Stage) -> None:
    headers = {"Authorization": f"Bearer {stage.endpoint.key}"}
    given = {"pieces": ["x" * 800_000], "times": 13}
    url = f"{stage.endpoint.url}/media/runsync"
    done = requests.post(url, json={"input": given}, headers=headers, timeout=60).json()
    assert done["id"].startswith("sync-")
    assert "".join(done["output"]) == "x" * 800_000 * 13


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


def test_no_text_is_in_the_log(stage: Stage) -> None:
    stage.client.wait(stage.tell(pieces=["my secret ", "words"]))
    assert "secret words" not in stage.logs()
    assert "my secret" not in stage.logs()


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


def test_strict_hands_each_piece_out_once(tmp_path: Path) -> None:
    with Stage(tmp_path, strict=True) as stage:
        heard = list(stage.client.stream(job := stage.tell(pieces=WORDS)))
        assert "".join(heard) == "".join(WORDS)
        assert stage.stream(job)["stream"] == []
        assert stage.client.wait(job) == heard


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


def test_two_jobs_at_once_on_a_model_with_two_places(tmp_path: Path) -> None:
    """Each waits until the other has spoken: neither would end alone."""
    entry = {"pipeline": "converse", "model_id": str(write_files(tmp_path / "model")), "warm": True}
    models = tmp_path / "converse.json"
    models.write_text(json.dumps([entry]))
    with Lab(tmp_path, env={"MODELS": str(models), "PIPELINE": "converse"}) as lab:
        given = {"pipeline": "converse", "folder": str(tmp_path)}
        jobs = {
            name: lab.client.submit({**given, "name": name, "after": other})
            for name, other in (("ada", "bob"), ("bob", "ada"))
        }
        for name, job in jobs.items():
            assert "".join(lab.client.wait(job)) == "".join(f"{name}{turn} " for turn in range(5))


def test_openais_answer_is_the_only_piece(stage: Stage) -> None:
    answer = stage.ask("completions", {"prompt": "to be or not"})
    assert answer.json() == {"choices": [{"text": "to be or not"}]}


def test_openais_models_are_the_only_piece(stage: Stage) -> None:
    listed = stage.ask("models").json()
    assert [model["object"] for model in listed["data"]] == ["model"]


def openai_job(stage: Stage, **body: Any) -> str:
    """A request to OpenAI's API as an endpoint makes it a job."""
    return stage.client.submit({"openai_route": "/v1/completions", "openai_input": body})


def ended(stage: Stage, job: str) -> dict[str, Any]:
    """The job's state at its end."""
    until(lambda: stage.status(job) in ("COMPLETED", "FAILED"), "the job does not end")
    return stage.client.status(job)


def test_openais_events_pass_as_they_are(stage: Stage) -> None:
    job = openai_job(stage, prompt="to be", stream=True)
    events = "".join(stage.client.wait(job)).split("\n\n")
    assert [json.loads(event.removeprefix("data: ")) for event in events[:-2]] == [
        {"choices": [{"text": "to"}]},
        {"choices": [{"text": "be"}]},
    ]
    assert events[-2:] == ["data: [DONE]", ""]


@pytest.mark.parametrize("stream", [True, False])
def test_an_error_reaches_openais_clients_in_their_shape(stage: Stage, stream: bool) -> None:
    job = openai_job(stage, prompt="to be", refuse_at=0, stream=stream)
    error = json.loads(ended(stage, job)["error"])
    assert error["message"] == "prompt: this word is not said"
    assert error["type"] == "invalid_request_error"
    assert stage.pieces(job) == []


def test_an_error_in_the_middle_is_an_event_too(stage: Stage) -> None:
    job = openai_job(stage, prompt="to be or", refuse_at=2, stream=True)
    error = json.loads(ended(stage, job)["error"])
    *_, last = "".join(stage.pieces(job)).strip().split("\n\n")
    assert json.loads(last.removeprefix("data: ")) == {"error": error}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A worker that serves other pipelines too."""
    with Stage(tmp_path_factory.mktemp("mixed"), pipeline=None) as stage:
        yield stage


def test_a_worker_of_many_pipelines_answers_text_whole(mixed: Stage) -> None:
    result = mixed.client.wait(mixed.tell())
    assert result.keys() == {"text", "usage", "finish_reason", "metrics", "receipt"}
    assert (result["text"], result["finish_reason"]) == ("one two three", "stop")
    assert "metrics" in mixed.client.run({"pipeline": "sleep", "ms": 1})


def test_a_worker_of_many_pipelines_answers_openais_api_but_does_not_stream_it(mixed: Stage) -> None:
    assert mixed.client.wait(openai_job(mixed, prompt="to be")) == {"choices": [{"text": "to be"}]}
    error = json.loads(ended(mixed, openai_job(mixed, prompt="to be", stream=True))["error"])
    assert "without stream" in error["message"]
    assert error["code"] == "invalid_input"
