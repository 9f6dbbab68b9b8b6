"""The SDK's loop with our take, stop and run in it."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from platforms.local.workers import ROOT
from platforms.runpod import sdk
from shared.backlog import Backlog
from tests.clock import Clock

NOBODY: Any = None


class Platform:
    """Stands where the SDK's own functions stood, and answers as it is told."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.jobs: list[dict[str, Any]] = []
        self.stops: list[str] = []
        self.failures: list[Exception] = []
        self.hold = asyncio.Event()
        self.hold.set()
        self.handled: list[str] = []

    async def get_job(self, session: Any, wanted: int) -> list[dict[str, Any]]:
        self.asked.append(wanted)
        await self.hold.wait()
        if self.failures:
            raise self.failures.pop()
        taken, self.jobs = self.jobs[:wanted], self.jobs[wanted:]
        return taken

    async def get_stop_signals(self, session: Any) -> list[str]:
        return self.stops

    async def handle_job(self, session: Any, config: dict[str, Any], job: dict[str, Any]) -> None:
        self.handled.append(job["id"])


@pytest.fixture
def platform(monkeypatch: pytest.MonkeyPatch) -> Iterator[Platform]:
    sdk.import_runpod()
    from runpod.serverless.modules import rp_scale

    platform = Platform()
    for name in ("get_job", "get_stop_signals", "handle_job"):
        monkeypatch.setattr(rp_scale, name, getattr(platform, name))
    before = signal.getsignal(signal.SIGTERM)
    yield platform
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def backlog() -> Backlog:
    backlog = Backlog(Clock())
    backlog.accepted("before", "sleep")
    backlog.ended("before", 0.1)
    return backlog


def loop_on(backlog: Backlog, *, ahead_s: float = 0.3) -> sdk.Loop:
    loop = sdk.Loop(backlog, kind_of, take_ahead_s=ahead_s, drain_s=5)
    assert loop.install()
    return loop


def kind_of(job_input: Any) -> str:
    return str(job_input["pipeline"])


def a_job(name: str) -> dict[str, Any]:
    return {"id": name, "input": {"pipeline": "sleep"}}


def test_an_sdk_without_these_seams_is_left_alone(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    from runpod.serverless.modules import rp_scale

    monkeypatch.delattr(rp_scale, "get_stop_signals")
    assert not sdk.Loop(Backlog(Clock()), kind_of, take_ahead_s=0.3, drain_s=5).install()
    assert rp_scale.get_job == platform.get_job


def test_an_sdk_that_looks_elsewhere_is_left_alone(platform: Platform, monkeypatch: pytest.MonkeyPatch) -> None:
    from runpod.serverless.modules import rp_scale

    class Scaler:
        def __init__(self, config: dict[str, Any]) -> None:
            self.jobs_fetcher = self.jobs_handler = None

    monkeypatch.setattr(rp_scale, "JobScaler", Scaler)
    assert not sdk.Loop(Backlog(Clock()), kind_of, take_ahead_s=0.3, drain_s=5).install()
    assert rp_scale.get_job == platform.get_job


def test_asks_for_what_fills_twice_the_time_ahead_and_counts_it_at_once(platform: Platform, backlog: Backlog) -> None:
    platform.jobs = [a_job(f"job-{n}") for n in range(9)]
    taken = asyncio.run(loop_on(backlog).take(NOBODY, 256))
    assert platform.asked == [6]
    assert taken is not None
    assert len(taken) == len(backlog) == 6


def test_waits_while_there_is_work_and_asks_when_the_device_is_nearly_free(
    platform: Platform, backlog: Backlog
) -> None:
    async def run() -> list[list[int]]:
        loop = loop_on(backlog)
        backlog.accepted("long", "unheard-of")
        taking = asyncio.create_task(loop.take(NOBODY, 256))
        await asyncio.sleep(5 * sdk.GATE_POLL_S)
        before = list(platform.asked)
        backlog.started("long")
        backlog.stepped("long", 0.2)
        await asyncio.wait_for(taking, 5)
        return [before, platform.asked]

    before, after = asyncio.run(run())
    assert before == []
    assert len(after) == 1


def test_nothing_is_taken_ahead_when_told_so(platform: Platform, backlog: Backlog) -> None:
    async def run() -> bool:
        loop = loop_on(backlog, ahead_s=0)
        backlog.accepted("running", "sleep")
        backlog.started("running")
        backlog.stepped("running", 0.0)
        taking = asyncio.create_task(loop.take(NOBODY, 256))
        await asyncio.sleep(5 * sdk.GATE_POLL_S)
        waited = not taking.done()
        backlog.ended("running")
        await asyncio.wait_for(taking, 5)
        return waited

    assert asyncio.run(run())
    assert platform.asked == [1]


def test_a_stop_for_a_job_that_has_not_begun_is_kept_until_it_would(platform: Platform, backlog: Backlog) -> None:
    async def run() -> None:
        loop = loop_on(backlog)
        platform.jobs, platform.stops = [a_job("stopped"), a_job("kept")], ["stopped", "unheard-of"]
        await loop.take(NOBODY, 256)
        assert await loop.stops(NOBODY) == ["unheard-of"], "the SDK could cancel its task before that had a turn"
        with pytest.raises(asyncio.CancelledError):
            await loop.run(NOBODY, {}, a_job("stopped"))
        await loop.run(NOBODY, {}, a_job("kept"))

    asyncio.run(run())
    assert platform.handled == ["kept"]
    assert len(backlog) == 0


def test_a_job_that_the_sdk_stops_is_off_the_device_before_it_counts_as_ended(
    platform: Platform, backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The SDK drops a generator that it stops while it posts for it."""
    on_device = asyncio.Event()
    told: list[str] = []

    async def on_stop(job_id: str) -> None:
        told.append(job_id)
        await on_device.wait()

    async def post(session: Any, config: dict[str, Any], job: dict[str, Any]) -> None:
        await asyncio.Event().wait()

    async def run() -> None:
        from runpod.serverless.modules import rp_scale

        monkeypatch.setattr(rp_scale, "handle_job", post)
        loop = sdk.Loop(backlog, kind_of, take_ahead_s=0.3, drain_s=5, on_stop=on_stop)
        assert loop.install()
        platform.jobs = [a_job("job")]
        await loop.take(NOBODY, 1)
        running = asyncio.create_task(loop.run(NOBODY, {}, a_job("job")))
        await asyncio.sleep(0)
        running.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
        assert (told, len(backlog)) == (["job"], 1)
        on_device.set()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(run())
    assert len(backlog) == 0


def test_a_connection_error_is_waited_out(
    platform: Platform, backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sdk, "BACK_OFF_S", (0.0, 0.0))

    async def run() -> None:
        loop = loop_on(backlog)
        platform.failures = [aiohttp.ServerDisconnectedError()]
        assert await loop.take(NOBODY, 256) is None
        platform.jobs = [a_job("next")]
        assert await loop.take(NOBODY, 256) == [a_job("next")]

    asyncio.run(run())


def test_an_error_of_the_platform_is_waited_out_too(
    platform: Platform, backlog: Backlog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the SDK asks again at once: thousands of requests a second for as long as the outage lasts."""
    monkeypatch.setattr(sdk, "BACK_OFF_S", (0.001, 0.004))

    async def run() -> None:
        loop = loop_on(backlog)
        for status in (500, 502, 401):
            platform.failures = [answer(status)]
            assert await loop.take(NOBODY, 256) is None
        platform.failures = [answer(429)]
        with pytest.raises(aiohttp.ClientResponseError):
            await loop.take(NOBODY, 256)

    asyncio.run(run())
    assert len(platform.asked) == 4


def test_nothing_is_asked_for_on_a_lost_device(platform: Platform, backlog: Backlog) -> None:
    async def run() -> None:
        loop = sdk.Loop(backlog, kind_of, take_ahead_s=0.3, drain_s=5, is_broken=lambda: True)
        assert loop.install()
        taking = asyncio.create_task(loop.take(NOBODY, 256))
        await asyncio.sleep(5 * sdk.GATE_POLL_S)
        assert not taking.done()
        taking.cancel()

    asyncio.run(run())
    assert platform.asked == []


def answer(status: int) -> aiohttp.ClientResponseError:
    request: Any = None
    return aiohttp.ClientResponseError(request, (), status=status)


def test_sigterm_drops_a_held_poll_at_once(platform: Platform, backlog: Backlog) -> None:
    heard: list[int] = []

    async def run() -> Any:
        signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        loop = loop_on(backlog)
        platform.hold.clear()
        taking = asyncio.create_task(loop.take(NOBODY, 256))
        while not platform.asked:
            await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGTERM)
        return await asyncio.wait_for(taking, 5)

    assert not asyncio.run(run())
    assert heard == [signal.SIGTERM], "the SDK's own handler hears of it too"


def test_what_was_left_out_of_the_sdks_import_can_still_be_imported() -> None:
    code = """
import sys
from platforms.runpod.sdk import import_runpod
runpod = import_runpod()
print([name for name in ("cpuinfo", "paramiko") if name in sys.modules])
import cpuinfo, paramiko
print(runpod.serverless.start.__name__, paramiko.SSHClient.__name__, cpuinfo.get_cpu_info.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "start SSHClient get_cpu_info"]
