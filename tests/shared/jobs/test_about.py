"""The routes that tell of a worker: what they answer, and what their description says."""

from fastapi import FastAPI
from fastapi.testclient import TestClient

from shared.capabilities import Capabilities, Capability, OfferedModel, WorkerLoad
from shared.hardware import GPUComputeInfo, GPUUtilizationInfo, HardwareInformation, HardwareStats
from shared.jobs.about import about_router

ROUTES = {
    "/capabilities": "capabilities",
    "/hardware/info": "hardware_info",
    "/hardware/stats": "hardware_stats",
    "/metrics": "metrics",
}
CARD = {"id": "GPU-aa11", "name": "NVIDIA Test", "memory_total": 8, "memory_free": 4}


class Worker:
    """Tells of itself; implements About."""

    def capabilities(self) -> Capabilities:
        model = OfferedModel(model_id="ours/first")
        return Capabilities(
            version="0.1.0",
            worker="w",
            load=WorkerLoad(running=0, waiting=0, capacity=1),
            capabilities=[Capability(pipeline="text-to-image", models=[model])],
        )

    def hardware_info(self) -> HardwareInformation:
        card = GPUComputeInfo.model_validate({**CARD, "major": 8, "minor": 9})
        return HardwareInformation(pipeline="p", model_id="m", gpu_info={0: card})

    def hardware_stats(self) -> HardwareStats:
        card = GPUUtilizationInfo.model_validate({**CARD, "utilization_compute": 1, "utilization_memory": 2})
        return HardwareStats(pipeline="p", model_id="m", gpu_stats={0: card})

    def metrics(self, accept: str) -> tuple[bytes, str]:
        return accept.encode(), "text/plain; version=0.0.4; charset=utf-8"


def client() -> TestClient:
    app = FastAPI()
    app.include_router(about_router(Worker()))
    return TestClient(app)


def test_the_document_leaves_out_what_is_not_known() -> None:
    assert client().get("/capabilities").json() == {
        "version": "0.1.0",
        "worker": "w",
        "load": {"running": 0, "waiting": 0, "capacity": 1},
        "capabilities": [
            {
                "pipeline": "text-to-image",
                "models": [
                    {
                        "model_id": "ours/first",
                        "revision": "main",
                        "warm": False,
                        "default": False,
                        "constraints": {},
                    }
                ],
            }
        ],
    }


def test_the_document_that_is_served_can_be_read_by_another_node() -> None:
    body = client().get("/capabilities").content
    assert Capabilities.model_validate_json(body) == Worker().capabilities()


def test_cards_are_wrapped_as_livepeers_node_reads_them() -> None:
    info = client().get("/hardware/info").json()
    assert info == {"pipeline": "p", "model_id": "m", "gpu_info": {"0": {**CARD, "major": 8, "minor": 9}}}
    stats = client().get("/hardware/stats").json()
    told = {"utilization_compute": 1, "utilization_memory": 2}
    assert stats == {"pipeline": "p", "model_id": "m", "gpu_stats": {"0": {**CARD, **told}}}


def test_metrics_go_out_in_the_format_that_was_asked_for() -> None:
    answer = client().get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert answer.content == b"application/openmetrics-text"
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


def test_routes_are_described_under_livepeers_names() -> None:
    described = client().get("/openapi.json").json()
    assert {path: route["get"]["operationId"] for path, route in described["paths"].items()} == ROUTES
    names = {"HardwareInformation", "HardwareStats", "GPUComputeInfo", "GPUUtilizationInfo", "Capabilities"}
    assert names <= described["components"]["schemas"].keys()
    formats = described["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert formats.keys() == {"text/plain", "application/openmetrics-text"}
