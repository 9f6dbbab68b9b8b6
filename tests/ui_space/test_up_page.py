"""`pilotlight up --ui` with a pipeline of one's own: its tab, the jobs that the browser remembers, and the end."""

import json
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from playwright.sync_api import Browser, Locator, expect

from shared.jobs.client import Client
from tests.platforms.lab import is_gone, until
from tests.platforms.terminal import Terminal
from tests.ui_space.visitor import Visitor, visitor

HANDLERS = Path(__file__).parent / "own_handlers"
UP = ("up", "--ui", "--json", "--port", "0")
KEPT = "pilotlight-jobs"
ROWS = ".job-rows a"


class Running:
    """`up --ui` in another process, in a home of its own."""

    def __init__(self, folder: Path) -> None:
        self.terminal = Terminal(folder, handlers=HANDLERS)
        self.process = self.terminal.start(*UP, "--ui-port", "0", "--data", str(folder / "data"))
        assert self.process.stdout is not None
        self.said: dict[str, Any] = json.loads(self.process.stdout.readline())
        self.page: str = self.said["page"]
        self.client = Client(self.said["url"], "media", self.said["key"])

    def end(self) -> int:
        """Press Ctrl-C, unless that has been done."""
        assert self.process.stdout is not None
        if self.process.poll() is None:
            self.client.close()
            self.process.send_signal(signal.SIGINT)
            self.process.stdout.close()
        return self.process.wait(60)

    def children(self) -> list[int]:
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [int(pid) for task in tasks for pid in task.read_text().split()]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    running = Running(tmp_path_factory.mktemp("up"))
    yield running
    running.end()


def begin(somebody: Visitor, name: str, **fields: str) -> None:
    """Submit a kite."""
    somebody.open("Fly kite")
    somebody.seen(".field-tails_m .cm-content").fill("[1.5, 2]")
    for field, value in {"name": name, **fields}.items():
        somebody.fill(field, value)
    before = somebody.page.url
    somebody.submit()
    somebody.page.wait_for_url(lambda url: url != before)


def fly(somebody: Visitor, name: str, **fields: str) -> str:
    """Submit a kite, wait for its end, and return its id."""
    begin(somebody, name, **fields)
    somebody.until("Done in|this kite is torn")
    return somebody.job_id()


def remembered(somebody: Visitor) -> str:
    """What the browser keeps of jobs."""
    return str(somebody.page.evaluate(f"localStorage.getItem('{KEPT}')"))


def remember(somebody: Visitor, text: str) -> None:
    """Let the browser keep something else in that place."""
    somebody.page.evaluate(f"text => localStorage.setItem('{KEPT}', text)", text)


def in_form(somebody: Visitor, field: str) -> Locator:
    return somebody.seen(f".field-{field} :is(input, textarea)")


def test_a_pipeline_of_ones_own_has_a_tab_that_shows_whatever_it_makes(running: Running, browser: Browser) -> None:
    with visitor(browser, running.page) as somebody:
        job_id = fly(somebody, "Alba", height_m="120")
        expect(somebody.seen(".made-text textarea")).to_have_value("Alba flew at 120 m in calm wind")
        sent = running.client.status(job_id)["output"]["receipt"]["params"]
        assert (sent["tails_m"], sent["wind"]) == ([1.5, 2.0], "calm")

        fly(somebody, "Alba", told="json")
        told = somebody.seen(".made-json").inner_text()
        assert "tails" in told
        assert "http://127.0.0.1:9/not-fetched.csv" in told
        with somebody.page.expect_download() as taken:
            somebody.seen(".made-files a").click()
        assert taken.value.suggested_filename.endswith("-log.csv")
        assert taken.value.path().read_text() == "tail,m\n0,1.5\n"

        fly(somebody, "Alba", told="nothing")
        expect(somebody.seen(".job-stage")).to_contain_text("no output to show")


def test_cancel_stops_the_job_on_the_endpoint(running: Running, browser: Browser) -> None:
    with visitor(browser, running.page) as somebody:
        begin(somebody, "Alba", until="/nowhere")
        somebody.until("Step 1 of 2")
        somebody.seen("button.cancel-job").click()
        assert "Nothing is running any more" in somebody.until("Cancelled")
        assert running.client.status(somebody.job_id())["status"] == "CANCELLED"
        until(lambda: running.client.health()["workers"]["idle"] == 1, "the worker is not free")


def test_a_reload_takes_the_job_up_again_with_its_form_and_lists_it(running: Running, browser: Browser) -> None:
    with visitor(browser, running.page) as somebody:
        remember(somebody, '[null, 7, {"job": "../x", "pipeline": "fly-kite"}, {"job": "j-1", "pipeline": 5}]')
        gate = running.terminal.folder / "gate"
        begin(somebody, "Alba", height_m="120", until=str(gate))
        somebody.until("Step 1 of 2")
        first = somebody.job_id()
        somebody.page.reload()
        somebody.arrived()
        somebody.until("Step 1 of 2")
        expect(in_form(somebody, "name")).to_have_value("Alba")
        expect(in_form(somebody, "height_m")).to_have_value("120")
        expect(somebody.seen(".field-tails_m .cm-content")).to_contain_text("1.5")
        gate.touch()
        expect(somebody.seen(".made-text textarea")).to_have_value("Alba flew at 120 m in calm wind")
        assert somebody.job_id() == first

        fly(somebody, "torn")
        somebody.page.get_by_role("tab", name="History", exact=True).click()
        expect(somebody.page.locator(ROWS)).to_have_count(2)
        states = [text.split()[-1] for text in somebody.page.locator(ROWS).all_inner_texts()]
        assert states == ["failed", "done"]
        somebody.page.locator(ROWS).last.click()
        expect(in_form(somebody, "name")).to_have_value("Alba")
        expect(somebody.seen(".made-text textarea")).to_have_value("Alba flew at 120 m in calm wind")
        assert somebody.job_id() == first
        kept = remembered(somebody)
        assert '"name":"Alba"' in kept
        assert running.said["key"] not in kept
        assert " flew at " not in kept

        somebody.page.get_by_role("tab", name="History", exact=True).click()
        somebody.seen(".forget-jobs").click()
        expect(somebody.page.locator(ROWS)).to_have_count(0)
        assert remembered(somebody) == "None"


def test_a_job_that_the_browser_does_not_know_fills_the_form_by_its_receipt(
    running: Running, browser: Browser
) -> None:
    job_id = running.client.submit({"pipeline": "fly-kite", "name": "Boreas", "tails_m": [3], "wind": "strong"})
    running.client.wait(job_id)
    with browser.new_context() as context:
        context.add_init_script(f"localStorage.setItem('{KEPT}', '{{')")
        somebody = Visitor(context, f"{running.page}?job=fly-kite/{job_id}")
        somebody.until("Done in")
        expect(in_form(somebody, "name")).to_have_value("Boreas")
        expect(in_form(somebody, "wind")).to_have_value("strong")
        expect(somebody.page.locator(ROWS)).to_have_count(0)
        assert somebody.errors == []


def test_the_page_knows_the_key_and_does_not_tell_it(running: Running) -> None:
    for path in ("", "config"):
        answer = requests.get(f"{running.page}{path}", timeout=10)
        assert answer.status_code == 200
        assert running.said["key"] not in answer.text


def test_a_taken_port_is_said_before_anything_starts(running: Running, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = running.terminal.run(*UP, "--ui-port", port, "--data", str(tmp_path / "data"))
    assert done.returncode == 1
    assert f"port {port} cannot be used" in done.stderr
    assert "--ui-port" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "data").exists()


def test_ctrl_c_ends_the_page_with_all_else(running: Running) -> None:
    children = running.children()
    assert len(children) > 1
    assert running.end() == 0
    until(lambda: all(is_gone(pid) for pid in children), "something goes on")
    with pytest.raises(requests.ConnectionError):
        requests.get(running.page, timeout=5)
