"""Entries as orchestrators of Livepeer have them in their aiModels.json."""

import json
from pathlib import Path
from typing import Any

import pytest

from shared.errors import InvalidInput
from shared.models.catalog import Catalog, Entry, read
from shared.settings import Settings
from tests.lines import Lines

DRAWS = {"pipeline": "text-to-image", "model_id": "ours/draws", "price_per_unit": 4768371, "gateway": ""}
ENLARGES = {
    "pipeline": "upscale",
    "model_id": "ours/enlarges",
    "price_per_unit": "0.5e-2USD",
    "warm": True,
    "optimization_flags": {"SFAST": True, "DEEPCACHE": False},
    "gateway": "gateway.example:8935",
}
WRITES = {
    "pipeline": "llm",
    "model_id": "ours/writes",
    "price_per_unit": 0.18,
    "currency": "USD",
    "pixels_per_unit": 1000000,
    "url": "http://10.0.0.2:8000",
    "capacity": 2,
}


def write(folder: Path, *entries: dict[str, Any]) -> Path:
    file = folder / "aiModels.json"
    file.write_text(json.dumps(entries))
    return file


def test_an_orchestrators_list_is_read_as_it_is(tmp_path: Path) -> None:
    draws, enlarges, writes = read(write(tmp_path, DRAWS, ENLARGES, WRITES))
    assert (draws.price_per_unit, draws.currency) == (4768371, "wei")
    assert (enlarges.price_per_unit, enlarges.currency, enlarges.warm) == (0.005, "USD", True)
    assert (writes.pipeline, writes.url, writes.capacity) == ("text-generation", ("http://10.0.0.2:8000",), 2)


@pytest.mark.parametrize(
    ("given", "price", "currency"),
    [
        ({"price_per_unit": "12"}, 12, "wei"),
        ({"price_per_unit": "0.25eth"}, 0.25, "eth"),
        ({"price_per_unit": "1e3"}, 1000, "wei"),
        ({"price_per_unit": "2USD", "currency": "EUR"}, 2, "EUR"),
        ({"price_per_unit": "2USD", "currency": ""}, 2, "USD"),
        ({"price_per_unit": 2, "currency": ""}, 2, "wei"),
    ],
)
def test_a_price_may_bring_its_currency(given: dict[str, Any], price: float, currency: str) -> None:
    entry = Entry.model_validate({"pipeline": "upscale", "model_id": "a/b", **given})
    assert (entry.price_per_unit, entry.currency) == (price, currency)


@pytest.mark.parametrize("price", ["USD", "-1USD", "1 USD", "1e999USD", "1USD/h", ""])
def test_a_price_that_is_no_number_is_refused(tmp_path: Path, price: str) -> None:
    with pytest.raises(InvalidInput, match=r"entry 0\.price_per_unit: "):
        read(write(tmp_path, {**DRAWS, "price_per_unit": price}))


def test_the_log_says_once_which_flags_have_no_effect(tmp_path: Path, lines: Lines) -> None:
    settings = Settings(models=write(tmp_path, DRAWS, ENLARGES, {**WRITES, "optimization_flags": {"SFAST": "false"}}))
    for _ in range(2):
        Catalog.from_settings(settings)
    (line,) = lines.named("optimization_flags have no effect here: SFAST")
    assert vars(line)["fields"] == {"model": "ours/enlarges"}


def test_a_token_in_the_list_is_refused_naming_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="set a variable, and give its name as token_env") as refused:
        read(write(tmp_path, {**WRITES, "token": "secret-of-theirs"}))
    assert "secret-of-theirs" not in refused.value.message
