"""The real RunPod worker under everything that happens to workers: cancels, kills, signals, failing devices."""

import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from shared.errors import Cancelled, DeadlineExceeded, Internal, InvalidInput, OutOfMemory
from tests.platforms.lab import Lab, is_gone, until
from tests.shared.media.loopback import Route, loopback, reply


@pytest.fixture(scope="module")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with Lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab


@pytest.fixture
def lab(shared_lab: Lab) -> Lab:
    shared_lab.new_diary()
    shared_lab.until_idle()
    return shared_lab


@pytest.fixture
def quick_lab(tmp_path: Path) -> Iterator[Lab]:
    """A worker that has only seen short jobs, and so takes several ahead."""
    with Lab(tmp_path) as lab:
        lab.learn()
        yield lab


def test_progress_shows_step_by_step_while_the_job_runs(lab: Lab) -> None:
    job = lab.submit("long", 20_000, steps=400)
    seen = until(lambda: lab.client.status(job).get("output", {}).get("step"), "no step was reported")
    later = until(
        lambda: (step := lab.client.status(job)["output"]["step"]) > seen and step, "the step does not advance"
    )
    progress = lab.client.status(job)["output"]
    assert progress["steps"] == 400
    assert progress["seq"] > later
    assert progress["eta_s"] > 0
    lab.client.cancel(job)


def test_cancel_in_mid_job_frees_the_device_for_the_next_one(lab: Lab) -> None:
    long, following = lab.submit("long", 60_000, steps=1200), lab.submit("next", 20)
    lab.until_started("long")
    assert lab.client.cancel(long)["status"] == "CANCELLED"
    lab.client.wait(following)
    assert lab.when("long", "end") < lab.when("next", "start")
    assert lab.status(long) == "CANCELLED"
    with pytest.raises(Cancelled):
        lab.client.wait(long)


def test_a_cancelled_step_that_cannot_stop_keeps_the_device_until_it_ends(lab: Lab) -> None:
    """The next job must never run beside a piece of work that is still on the device."""
    stubborn = lab.submit("stubborn", 0, stubborn_ms=1500)
    lab.until_started("stubborn")
    lab.client.cancel(stubborn)
    lab.client.wait(lab.submit("next", 20))
    assert lab.when("stubborn", "end") < lab.when("next", "start")


def test_a_job_taken_ahead_is_cancelled_without_touching_the_device(quick_lab: Lab) -> None:
    lab = quick_lab
    running = lab.submit("running", 3000)
    lab.until_started("running")
    ahead = lab.submit("ahead", 20)
    lab.until_taken(ahead)
    lab.client.cancel(ahead)
    lab.client.wait(running)
    lab.client.wait(lab.submit("next", 20))
    assert lab.starts("ahead") == 0
    assert lab.status(ahead) == "CANCELLED"


def test_a_queued_job_is_cancelled_at_once(lab: Lab) -> None:
    running = lab.submit("running", 60_000, steps=1200)
    lab.until_started("running")
    queued = lab.submit("queued", 20)
    assert lab.client.cancel(queued)["status"] == "CANCELLED"
    lab.client.cancel(running)
    lab.client.wait(lab.submit("next", 20))
    assert lab.starts("queued") == 0


def test_kill_9_redelivers_the_running_job_once_and_does_not_punish_the_others(quick_lab: Lab) -> None:
    lab = quick_lab
    running = lab.submit("running", 2500)
    lab.until_started("running")
    lab.until_start_is_known(running)
    ahead = [lab.submit(f"ahead-{n}", 20) for n in range(4)]
    for job in ahead:
        lab.until_taken(job)
    lab.signal_workers(signal.SIGKILL)
    for job in [running, *ahead]:
        lab.client.wait(job)
    assert lab.client.status(running)["retries"] == 1
    assert lab.starts("running") == 2
    for n, job in enumerate(ahead):
        assert "retries" not in lab.client.status(job)
        assert lab.starts(f"ahead-{n}") == 1


def test_a_job_that_loses_its_worker_twice_fails(lab: Lab) -> None:
    job = lab.submit("fatal", 60_000)
    for times in (1, 2):
        lab.until_started("fatal", times)
        lab.until_start_is_known(job)
        lab.signal_workers(signal.SIGKILL)
    with pytest.raises(Internal, match="twice"):
        lab.client.wait(job)
    lab.client.wait(lab.submit("next", 20))


def test_sigterm_under_load_finishes_what_was_taken_and_loses_nothing(quick_lab: Lab) -> None:
    lab = quick_lab
    jobs = {f"job-{n}": lab.submit(f"job-{n}", 100) for n in range(30)}
    lab.until_started("job-2")
    (pid,) = lab.signal_workers(signal.SIGTERM)
    until(lambda: is_gone(pid), "the worker did not end")
    for job in jobs.values():
        lab.client.wait(job)
    assert {name: lab.starts(name) for name in jobs} == dict.fromkeys(jobs, 1)
    assert all("retries" not in lab.client.status(job) for job in jobs.values())


def test_a_worker_that_ends_leaves_no_connection_open(tmp_path: Path) -> None:
    with Lab(tmp_path) as lab:
        job = lab.submit("job", 60_000, steps=1200)
        lab.until_start_is_known(job)
        lab.client.cancel(job)
    assert "Unclosed" not in lab.logs()


def test_a_killed_worker_leaves_no_process_behind_that_names_its_jobs(lab: Lab) -> None:
    (pid,) = lab.worker_pids()
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    assert children, "the SDK pings from a process of its own"
    lab.signal_workers(signal.SIGKILL)
    until(lambda: all(is_gone(child) for child in children), "a ping process outlived its worker")


def test_out_of_memory_is_tried_again_once(lab: Lab) -> None:
    result = lab.client.run({"pipeline": "ruin", "name": "tight", "times": 1})
    assert result["metrics"]["attempts"] == 2


def test_out_of_memory_for_good_ends_that_job_alone(lab: Lab) -> None:
    (pid,) = lab.worker_pids()
    with pytest.raises(OutOfMemory):
        lab.client.run({"pipeline": "ruin"})
    lab.client.wait(lab.submit("next", 20))
    assert lab.worker_pids() == [pid]


def test_a_lost_device_fails_its_job_and_hands_the_others_to_a_new_worker(quick_lab: Lab) -> None:
    lab = quick_lab
    first = lab.submit("first", 1000)
    lab.until_started("first")
    ruin = lab.client.submit({"pipeline": "ruin", "how": "device_lost"})
    behind = lab.submit("behind", 20)
    lab.client.wait(first)
    with pytest.raises(Internal, match="device failed"):
        lab.client.wait(ruin)
    lab.client.wait(behind)
    assert lab.starts("behind") == 1
    assert "retries" not in lab.client.status(behind)


def test_a_lost_device_ends_its_worker_also_when_its_job_was_cancelled(quick_lab: Lab) -> None:
    """The worker would look alive, take jobs, and run none."""
    lab = quick_lab
    (pid,) = lab.worker_pids()
    ruin = lab.client.submit({"pipeline": "ruin", "how": "device_lost", "after_ms": 1000})
    lab.until_start_is_known(ruin)
    lab.client.cancel(ruin)
    until(lambda: is_gone(pid), "the worker goes on without a device")
    lab.client.wait(lab.submit("next", 20))
    assert lab.status(ruin) == "CANCELLED"


def test_a_job_that_waits_for_its_input_does_not_keep_others_from_the_device(tmp_path: Path) -> None:
    let_go = threading.Event()
    with (
        loopback({"/slow.png": held(let_go)}) as site,
        Lab(tmp_path, env={"ALLOW_PRIVATE_HOSTS": site.netloc}) as lab,
    ):
        lab.learn()
        fetching = lab.client.submit({"pipeline": "noise", "image": site.url("/slow.png")})
        until(lambda: site.seen, "the worker does not fetch the picture")
        lab.client.wait(lab.submit("next", 20))
        assert lab.status(fetching) == "IN_PROGRESS"
        let_go.set()
        with pytest.raises(InvalidInput, match="404"):
            lab.client.wait(fetching)


def test_a_cancelled_job_off_the_device_harms_no_other(tmp_path: Path) -> None:
    """Its delivery hangs longer than HANG_S; the worker has no reason to end, for the device is not held up."""
    let_go = threading.Event()
    with loopback({"/slow.png": held(let_go)}) as site:
        env = {"ALLOW_PRIVATE_HOSTS": site.netloc, "HANG_S": "0.2"}
        with Lab(tmp_path, env=env) as lab:
            (pid,) = lab.worker_pids()
            delivering = lab.client.submit(
                {"pipeline": "noise", "delivery": {"put": [{"url": site.url("/slow.png")}]}}
            )
            until(lambda: site.seen, "the worker does not deliver")
            lab.client.cancel(delivering)
            lab.client.wait(lab.submit("next", 500))
            assert lab.worker_pids() == [pid]
            let_go.set()


def held(let_go: threading.Event) -> Route:
    """A route that answers 404, but only when it is let go."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        let_go.wait(30)
        reply(404)(request)

    return answer


def test_an_internal_error_hides_its_traceback_behind_an_id_that_finds_it(lab: Lab) -> None:
    with pytest.raises(Internal) as caught:
        lab.client.run({"pipeline": "sleep", "ms": 1, "fail": "the secret reason"})
    assert "secret" not in str(caught.value)
    error_id = str(caught.value).split()[-1]
    (line,) = [line for line in lab.logs().splitlines() if error_id in line and "Traceback" in line]
    assert "the secret reason" in line


def test_each_stage_of_a_job_is_one_line_of_the_log(lab: Lab) -> None:
    job = lab.submit("logged", 20)
    lab.client.wait(job)
    lines = [line for line in lab.logs().splitlines() if f'"job": "{job}"' in line]
    stages = ("taken", "run", "delivered", "ended")
    told = [stage for stage in stages if any(f'"{stage}"' in line for line in lines)]
    assert told == ["taken", "run", "ended"]  # it has made nothing to deliver


def test_a_job_over_its_time_stops_and_says_so(tmp_path: Path) -> None:
    with Lab(tmp_path, env={"JOB_TIMEOUT_S": "1"}) as lab:
        with pytest.raises(DeadlineExceeded):
            lab.client.wait(lab.submit("late", 60_000, steps=1200))
        lab.client.wait(lab.submit("next", 20))


def test_a_job_that_does_not_yield_the_device_ends_its_worker(tmp_path: Path) -> None:
    with Lab(tmp_path, env={"HANG_S": "0.5"}) as lab:
        (pid,) = lab.worker_pids()
        hung = lab.submit("hung", 0, stubborn_ms=120_000)
        lab.until_started("hung")
        lab.client.cancel(hung)
        until(lambda: is_gone(pid), "the worker goes on")
        lab.client.wait(lab.submit("next", 20))
        assert lab.status(hung) == "CANCELLED"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"pipeline": "sleep", "ms": "soon"}, "ms: Input should be a valid number"),
        ({"pipeline": "sleep", "sneep": 1}, "sneep: there is no such parameter; did you mean steps"),
        ({"pipeline": "nonsense"}, "does not serve 'nonsense'; it serves: .*sleep"),
        ({"ms": 1}, "input.pipeline is missing"),
    ],
)
def test_bad_input_is_refused_with_what_is_wrong(lab: Lab, given: dict[str, object], says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        lab.client.run(given)
