"""The page's client against the web application of Modal, over a worker in this process."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.platforms.lab import until
from tests.platforms.modal.gateway import TOKEN
from tests.platforms.modal.test_backend import Desk, diary, held
from ui import config, status
from ui.endpoint import Endpoint
from ui.follow import View, follow


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[Endpoint]:
    """As the page makes it of a config.yml that names the web function."""
    with Desk(tmp_path).gateway as gateway:
        given = {"endpoint_id": "media", "base_url": f"{gateway.url}/v2", "pipelines": ["sleep"]}
        yield Endpoint(config.read({"endpoints": [given]}, {config.KEY: TOKEN}).endpoints[0])


def test_a_job_is_submitted_watched_and_cancelled(endpoint: Endpoint, tmp_path: Path) -> None:
    job = endpoint.submit(held(tmp_path))

    async def watched() -> list[View]:
        views: list[View] = []
        async for view in follow(endpoint, job, config.Poll(first_s=0.02, longest_s=0.1)):
            views.append(view)
            if status.line(view).startswith("Step ") and not view.ended and not stopped:
                stopped.append(await endpoint.aside(endpoint.cancel, job["id"]))
        return views

    stopped: list[dict[str, Any]] = []
    views = asyncio.run(watched())
    assert [answer["status"] for answer in stopped] == ["CANCELLED"]
    assert views[-1].job["status"] == "CANCELLED"
    until(lambda: diary(tmp_path) == ["start", "end"], "the worker goes on")
    assert endpoint.submit({"pipeline": "sleep", "ms": 1}, wait=True)["status"] == "COMPLETED"
