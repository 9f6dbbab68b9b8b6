"""Which endpoint the command line means."""

from pathlib import Path

import pytest

from platforms import records
from platforms.records import Endpoint
from shared.errors import InvalidInput, NotFound
from shared.settings import Settings

UP = [Endpoint(name, "http://127.0.0.1:8400/v2", "k") for name in ("media", "text-generation")]
MINE = Settings()


@pytest.fixture(autouse=True)
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return records.record_path()


def test_the_newest_of_a_name_is_meant() -> None:
    records.remember(UP)
    cloud = Endpoint("media", "https://api.runpod.ai/v2", "c")
    records.remember([cloud])
    assert records.find(None, "text-to-image", MINE) == cloud
    assert records.find(None, "text-generation", MINE) == UP[1]


def test_an_up_replaces_what_another_served_at_its_place() -> None:
    records.remember(UP)
    only_text = Endpoint("text-generation", UP[0].url, "new")
    records.remember([only_text])
    assert records.find(None, "text-to-image", MINE) == only_text
    with pytest.raises(NotFound):
        records.find("media", None, MINE)


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (None, ["media", "text-generation"]),
        ("http://127.0.0.1:8400/v2", ["media", "text-generation"]),
        ("http://127.0.0.1:8400/v2/text-generation", ["text-generation"]),
        ("text-generation", ["text-generation"]),
        ("http://other:1/v2", ["media", "text-generation"]),
    ],
)
def test_a_job_of_an_unknown_pipeline_may_be_at_each(wanted: str | None, names: list[str]) -> None:
    records.remember(UP)
    found = records.find_all(wanted, Settings.from_env({"PILOTLIGHT_API_KEY": "k"}))
    assert [endpoint.name for endpoint in found] == names


@pytest.mark.parametrize("content", ["", "[{", '[{"name": "media"}]', "[1]"])
def test_a_damaged_record_is_refused_with_its_place(record: Path, content: str) -> None:
    record.parent.mkdir(parents=True)
    record.write_text(content)
    with pytest.raises(InvalidInput, match=r"endpoints\.json is not .* delete it"):
        records.find(None, "text-to-image", MINE)
