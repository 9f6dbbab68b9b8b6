"""The bodies for RunPod's REST v2: it refuses fields that it does not know, and so does this test."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from shared.models.catalog import BUILT_IN, Catalog, read
from shared.models.store import RUNPOD_CACHE
from shared.settings import Settings

FOLDER = Path(__file__).parents[2] / "templates/runpod"
ENDPOINTS = ("endpoint", "text-endpoint")
CONTAINER = {"image", "args", "disk", "env", "ports", "registry"}
TEMPLATE = CONTAINER | {"name", "serverless", "public", "category", "mounts", "startSsh", "startJupyter"}
TEMPLATE |= {"allowedCudaVersions"}
ENDPOINT = CONTAINER | {"name", "type", "templateId", "scaling", "gpu", "cpu", "workers", "timeout", "flashboot"}
ENDPOINT |= {"dataCenterIds", "networkVolumes"}
GPU = {"pools", "count", "excludedTypes", "allowedCudaVersions", "minCudaVersion"}
POOL_GB = {"AMPERE_16": 16, "AMPERE_24": 24, "ADA_24": 24, "AMPERE_48": 48, "ADA_48_PRO": 48}
POOL_GB |= {"AMPERE_80": 80, "ADA_80_PRO": 80, "HOPPER_141": 141}
SCALING = {"QUEUE_DELAY": {"type", "queueDelay"}, "REQUEST_COUNT": {"type", "requestCount"}}
THIRD_PARTY_ENV = {"HF_HUB_CACHE", "RUNPOD_INIT_TIMEOUT"}  # huggingface_hub's, and RunPod's own


def body(name: str) -> dict[str, Any]:
    return dict(json.loads((FOLDER / f"{name}.json").read_text()))


def test_template_has_only_fields_that_runpod_knows() -> None:
    template = body("template")
    assert {"name", "image"} <= template.keys() <= TEMPLATE
    assert template["serverless"] is True
    assert template["public"] is False
    assert template["category"] in ("CPU", "NVIDIA", "AMD")


@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoint_has_only_fields_that_runpod_knows(name: str) -> None:
    endpoint = body(name)
    assert {"name", "type", "scaling"} <= endpoint.keys() <= ENDPOINT
    assert ("image" in endpoint) != ("templateId" in endpoint)
    assert ("gpu" in endpoint) != ("cpu" in endpoint)
    assert endpoint["type"] in ("QUEUE", "LOAD_BALANCER")
    assert endpoint["flashboot"] in ("OFF", "FLASHBOOT", "PRIORITY_FLASHBOOT")
    assert endpoint["gpu"].keys() <= GPU
    assert not {"allowedCudaVersions", "minCudaVersion"} <= endpoint["gpu"].keys()


@pytest.mark.parametrize("name", ENDPOINTS)
def test_endpoint_scales_by_one_rule_and_down_to_nothing(name: str) -> None:
    endpoint = body(name)
    scaling, workers = endpoint["scaling"], endpoint["workers"]
    assert scaling.keys() == SCALING[scaling["type"]]
    assert scaling.get("queueDelay", 0.5) >= 0.5
    assert workers.keys() <= {"min", "max", "idleTimeout"}
    assert "idleTimeout" not in workers or scaling["type"] != "REQUEST_COUNT"
    assert 1 <= workers.get("idleTimeout", 1) <= 3600
    assert 0 == workers["min"] < workers["max"]


def test_every_pool_has_room_for_every_built_in_model() -> None:
    wanted = max(entry.gpu_memory_gb or 0 for entry in read(BUILT_IN))
    assert all(POOL_GB[pool] > wanted for pool in body("endpoint")["gpu"]["pools"])


@pytest.mark.parametrize("name", ENDPOINTS)
def test_the_worker_gives_up_before_the_platform_does(name: str) -> None:
    endpoint = body(name)
    settings = Settings.from_env(endpoint["env"])
    assert endpoint["timeout"] > 1000 * settings.job_timeout_s


@pytest.mark.parametrize("name", ["template", *ENDPOINTS])
def test_environment_is_ours_or_a_third_partys_and_holds_no_secret(name: str) -> None:
    env = body(name)["env"]
    ours = {field.upper() for field in Settings.model_fields}
    assert env.keys() <= ours | THIRD_PARTY_ENV
    assert all(isinstance(value, str) for value in env.values())
    assert not [n for n in env if re.search("KEY|TOKEN|SECRET|PASSWORD", n)]
    assert env["HF_HUB_CACHE"] == str(RUNPOD_CACHE)


def test_template_and_endpoint_describe_the_same_container() -> None:
    template, endpoint = body("template"), body("endpoint")
    shared = {k: v for k, v in template.items() if k in CONTAINER}
    assert shared == {k: v for k, v in endpoint.items() if k in CONTAINER}


def test_a_text_endpoint_is_the_other_one_with_a_model() -> None:
    pictures, text = body("endpoint"), body("text-endpoint")
    more = {"name": text["name"], "env": text["env"]}
    assert {**pictures, **more} == text
    assert pictures["env"].items() <= text["env"].items()
    settings = Settings.from_env(text["env"])
    (entry,) = Catalog.from_settings(settings).entries
    assert (entry.pipeline, entry.warm, entry.options) == ("text-generation", True, {"context": 8192})


def test_every_placeholder_is_replaced_by_the_readme() -> None:
    texts = "".join((FOLDER / f"{name}.json").read_text() for name in ("template", *ENDPOINTS))
    assert set(re.findall(r"REPLACE_\w+", texts)) == set(
        re.findall(r"REPLACE_\w+", (FOLDER / "README.md").read_text())
    )
