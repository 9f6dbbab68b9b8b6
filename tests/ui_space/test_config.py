"""config.yml as owners write it, also the first chat Space's, and what they are told when it cannot work."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from ui.config import CHAT, RUNPOD_URL, Config, ConfigError, load, read

ENDPOINT = {"name": "mine", "endpoint_id": "abc", "pipelines": ["text-to-image"]}
KEYS = {"RUNPOD_AI_API_KEY": "secret-1"}
SHIPPED = Path(__file__).parents[2] / "ui_space" / "config.yml"


def config(**more: Any) -> Config:
    return read({"endpoints": [ENDPOINT], **more}, KEYS)


def problems(given: dict[str, Any], keys: dict[str, str] = KEYS) -> str:
    with pytest.raises(ConfigError) as caught:
        read(given, keys)
    return "\n".join(caught.value.problems)


def test_an_endpoint_goes_to_runpod_with_the_key_of_the_environment() -> None:
    (endpoint,) = config().endpoints
    assert (endpoint.base_url, endpoint.key) == (RUNPOD_URL, "secret-1")


def test_keys_do_not_show_when_a_configuration_is_printed() -> None:
    assert "secret-1" not in repr(config())


def test_endpoints_may_have_keys_of_their_own() -> None:
    other = {**ENDPOINT, "endpoint_id": "def", "pipelines": ["upscale"], "key_env": "OTHER"}
    found = read({"endpoints": [ENDPOINT, other]}, {**KEYS, "OTHER": "secret-2"})
    assert [e.key for e in found.endpoints] == ["secret-1", "secret-2"]


def test_the_file_of_the_first_chat_space_is_read() -> None:
    found = read(
        {
            "model_url": "https://example.com/model",
            "typer": {"delay": 0.2},
            "runpod": {"endpoint_id": "abc", "prefer_async": False},
            "llm": {"top_k": None, "seed": -1, "batch_size": 8, "stop": ["</s>"]},
            "queue": {"max_size": 16, "concurrency_count": 1},
        },
        KEYS,
    )
    assert found.endpoints[0].pipelines == (CHAT,)
    assert not found.prefer_async
    assert found.defaults[CHAT] == {"seed": -1, "batch_size": 8, "stop": ["</s>"]}
    assert (found.queue_max, found.concurrency, found.typing_delay_s) == (16, 1, 0.2)
    assert found.model_url == "https://example.com/model"


def test_the_file_in_the_repository_says_what_is_to_be_replaced() -> None:
    said = problems(yaml.safe_load(SHIPPED.read_text()))
    assert said.splitlines() == [
        "Endpoint Pictures and films: write its `endpoint_id` into config.yml.",
        "Endpoint Text: write its `endpoint_id` into config.yml.",
    ]


def test_the_file_in_the_repository_works_once_that_is_done() -> None:
    given = yaml.safe_load(SHIPPED.read_text().replace("<replace me>", "abc"))
    assert read(given, KEYS).endpoints[1].pipelines == (CHAT,)


def test_a_missing_key_is_said_by_the_name_of_its_secret() -> None:
    assert "add the secret RUNPOD_AI_API_KEY" in problems({"endpoints": [ENDPOINT]}, {})


def test_everything_that_is_missing_is_said_at_once() -> None:
    said = problems({"endpoints": [{"name": "a"}]}, {})
    assert all(word in said for word in ("endpoint_id", "pipelines", "RUNPOD_AI_API_KEY"))


@pytest.mark.parametrize("place", [{"api_key": "x"}, {"endpoints": [{**ENDPOINT, "token": "x"}]}])
def test_a_key_in_the_file_is_refused(place: dict[str, Any]) -> None:
    said = problems({"endpoints": [ENDPOINT], **place})
    assert "must never be in this file" in said


def test_a_value_of_the_wrong_kind_is_said(tmp_path: Path) -> None:
    assert "wrong kind" in problems({"endpoints": [ENDPOINT], "queue": {"max_size": "many"}})
    assert "indented below it" in problems({"endpoints": [ENDPOINT], "poll": 3})


@pytest.mark.parametrize(
    ("text", "said"),
    [("a: [", "not valid YAML near line"), ("- 1", "must be a list of settings"), (None, "no config")],
)
def test_a_file_that_cannot_be_read_is_said(tmp_path: Path, text: str | None, said: str) -> None:
    path = tmp_path / "config.yml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=said):
        load(path, KEYS)
