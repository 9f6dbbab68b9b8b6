"""A job whose model is not on the volume ends before it costs a card."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from grpclib import GRPCError, Status
from modal_proto import api_pb2

from shared.errors import ModelUnavailable
from tests.platforms.modal.conftest import AUTH_TOKEN
from tests.platforms.modal.gateway import Gateway, deployed_web
from tests.platforms.modal.plane import Plane
from tests.platforms.modal.records import Stock

COMMIT = "c" * 40
LISTED = [
    {"pipeline": "text-to-image", "model_id": "acme/plain"},
    {"pipeline": "text-to-image", "model_id": "acme/fixed", "revision": COMMIT, "pinned": True},
    {"pipeline": "upscale", "model_id": "demo/upscale"},
    {"pipeline": "text-generation", "model_id": "acme/chat", "files": ["q4.gguf"]},
]


class Site:
    """The web application over the app on a plane that starts no container."""

    def __init__(self, plane: Plane, gateway: Gateway) -> None:
        self.plane = plane
        self.gateway = gateway

    def put(self, model: str, file: str, commit: str = "a" * 40) -> None:
        path = self.plane.volume("models") / model / "snapshots" / commit / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    def queued(self, model_id: str, pipeline: str = "text-to-image", **params: Any) -> bool:
        """Whether a job of the model gets as far as a call; else it has failed with what can be done."""
        before = len(self.plane.calls.all)
        endpoint = "text-generation" if pipeline == "text-generation" else "media"
        with self.gateway.client(endpoint) as client:
            job_id = client.submit({"pipeline": pipeline, "model_id": model_id, "prompt": "a", **params})
            if len(self.plane.calls.all) > before:
                return True
            with pytest.raises(ModelUnavailable, match=r"app::download_model --model-id"):
                client.wait(job_id)
        return False


@pytest.fixture
def site(tmp_path: Path, deployed: Stock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    models = tmp_path / "models.json"
    models.write_text(json.dumps(LISTED))
    for name, value in {"MODELS": str(models), "ALLOW_ANY_MODEL": "1", "AUTH_TOKEN": AUTH_TOKEN}.items():
        monkeypatch.setenv(name, value)
    with ExitStack() as stack:
        plane = stack.enter_context(Plane(tmp_path / "plane", deployed, max_containers=0))
        stack.enter_context(plane.client_env())
        yield Site(plane, stack.enter_context(Gateway(deployed_web, AUTH_TOKEN)))


def test_a_model_that_is_not_there_costs_nothing_and_one_that_came_is_found(site: Site) -> None:
    assert not site.queued("acme/plain")
    assert not site.queued("acme/any-other")
    site.put("models--acme--plain", "unet/weights.safetensors")
    site.put(
        "models--Acme--Any-other", "weights.safetensors"
    )  # RunPod's are lower-cased: names are taken in any case
    assert site.queued("acme/plain")
    assert site.queued("acme/any-other")


def test_it_has_to_be_the_revision_and_the_file_that_are_asked_for(site: Site) -> None:
    site.put("models--acme--fixed", "weights.safetensors")
    site.put("models--acme--chat", "q8.gguf")
    assert not site.queued("acme/fixed")
    assert not site.queued("acme/chat", "text-generation")
    site.put("models--acme--fixed", "weights.safetensors", COMMIT)
    site.put("models--acme--chat", "q4.gguf")
    assert site.queued("acme/fixed")
    assert site.queued("acme/chat", "text-generation")


def test_a_step_of_a_chain_is_looked_for_too(site: Site) -> None:
    steps = [{"pipeline": "text-to-image", "model_id": "acme/plain", "prompt": "a"}, {"pipeline": "upscale"}]
    with site.gateway.client() as client:
        job_id = client.submit({"pipeline": "workflow", "steps": steps})
        assert client.status(job_id)["error"].startswith("model_unavailable: 'acme/plain' is not on the volume")


class Silent:
    """A service that lists no volume."""

    async def volume_list_files(self, request: api_pb2.VolumeListFilesRequest) -> AsyncIterator[Any]:
        raise GRPCError(Status.PERMISSION_DENIED, "not now")
        yield  # type: ignore[unreachable]


def test_where_the_volume_does_not_say_the_container_looks(site: Site) -> None:
    site.plane.service.rooms.insert(0, Silent())
    assert site.queued("acme/plain")


def test_a_model_of_ours_is_in_the_image(site: Site) -> None:
    assert site.queued("demo/upscale", "upscale", image="https://example.com/a.png")
