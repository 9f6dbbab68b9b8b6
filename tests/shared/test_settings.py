"""The environment and how it is read."""

import re
from pathlib import Path

import pytest

from shared.errors import InvalidInput
from shared.settings import Settings, variable

ROOT = Path(__file__).parents[2]


def test_an_empty_variable_counts_as_not_set() -> None:
    assert Settings.from_env({"PIPELINE": "", "TAKE_AHEAD_S": ""}) == Settings()


def test_a_wrong_value_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"DRAIN_S: .*number.*; LOG_LEVEL"):
        Settings.from_env({"DRAIN_S": "soon", "LOG_LEVEL": "loud"})


def test_secrets_do_not_show() -> None:
    settings = Settings.from_env({"HF_TOKEN": "hf_sesame", "RECEIPT_KEY": "sesame"})
    assert "sesame" not in repr(settings)


def test_a_named_variable_is_read() -> None:
    assert variable("MY_KEY", {"MY_KEY": "k"}) == "k"
    assert variable("MY_KEY", {"MY_KEY": ""}) is None


def test_nothing_else_reads_the_environment() -> None:
    readers = {
        file.relative_to(ROOT).as_posix()
        for folder in ("shared", "handlers", "platforms")
        for file in (ROOT / folder).rglob("*.py")
        if re.search(r"os\.environ|getenv", file.read_text())
    }
    # what is uploaded to Modal is chosen by an interpreter that has no pydantic
    assert readers == {"shared/settings.py", "platforms/modal/own.py"}


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        *[("GGML_LAYERS", "-2"), ("GGML_LAYERS", "all"), ("GGML_CONTEXT", "15"), ("GGML_CONTEXT", "-1")],
        *[("GGML_PARALLEL", "0"), ("GGML_PARALLEL", "65"), ("GGML_PARALLEL", "2.5")],
    ],
)  # fmt: skip
def test_a_text_models_numbers_have_bounds(variable: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=f"environment: {variable}: "):
        Settings.from_env({variable: value})


def test_the_first_workers_variables_are_read() -> None:
    env = {"GGML_REPO": "a/b", "GGML_FILE": "c.gguf", "GGML_TYPE": "llama", "GGML_LAYERS": "0", "GGML_REVISION": "x"}
    read = Settings.from_env(env)
    assert (read.ggml_repo, read.ggml_file, read.ggml_type) == ("a/b", "c.gguf", "llama")
    assert (read.ggml_layers, read.ggml_revision) == (0, "x")
    assert Settings.from_env({"GGML_REVISION": ""}).ggml_revision == "main"


def test_the_space_around_a_token_goes() -> None:
    read = Settings.from_env({"HF_TOKEN": " hf_sesame\r\n"}).hf_token
    assert read is not None
    assert read.get_secret_value() == "hf_sesame"
    assert Settings.from_env({"HF_TOKEN": "\n"}).hf_token is None


@pytest.mark.parametrize("token", ["hf_ses ame", "hf_sésame", "hf_ses\name", "hf_sesame\x7f"])
def test_a_token_that_no_request_can_carry_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidInput, match=r"environment: HF_TOKEN: .*copy it again") as caught:
        Settings.from_env({"HF_TOKEN": token})
    assert token not in caught.value.message
