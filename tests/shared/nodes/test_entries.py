"""How models.json names nodes, and what it may not hold."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from shared.errors import InvalidInput
from shared.models.catalog import Catalog, Entry
from shared.nodes.fleet import addresses_of
from tests.shared.nodes.fronts import front


def entry(**more: object) -> Entry:
    return Entry.model_validate({"pipeline": "draw", "model_id": "acme/draw", **more})


def test_one_url_or_several() -> None:
    assert entry(url="http://10.0.0.1:8000/").url == ("http://10.0.0.1:8000",)
    assert entry(url=["http://a:1", "https://b/v2/x"]).url == ("http://a:1", "https://b/v2/x")


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ({"url": "http://a", "token": "very-secret"}, "token_env"),
        ({"url": "ftp://a"}, "http"),
        ({"url": "http://user:very-secret@a"}, "credentials"),
        ({"url": "http://a?key=very-secret"}, "query"),
        ({"token_env": "ACME_TOKEN"}, "url"),
    ],
)
def test_what_cannot_be_meant_is_refused_and_not_repeated(more: dict[str, object], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem) as error:
        entry(**more)
    assert "very-secret" not in str(error.value.errors(include_input=False))


def test_a_models_json_with_a_token_says_what_to_do_instead(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="set a variable, and give its name as token_env") as error:
        front(tmp_path, "http://a", token="very-secret")
    assert "very-secret" not in error.value.message


def test_a_variable_that_is_not_set_is_noticed_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="ACME_TOKEN"):
        front(tmp_path, "http://a", token_env="ACME_TOKEN")


def test_entries_of_one_model_are_one_so_that_nodes_may_have_tokens_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_TOKEN", "a")
    monkeypatch.setenv("B_TOKEN", "b")
    found = addresses_of([entry(url="http://a", token_env="A_TOKEN"), entry(url="http://b", token_env="B_TOKEN")])
    assert [(a.name, a.token) for a in found["draw", "acme/draw"]] == [("node-1", "a"), ("node-2", "b")]


def test_what_nodes_run_is_not_among_what_this_worker_loads() -> None:
    here, there = entry(), entry(model_id="acme/large", url="http://a")
    catalog = Catalog([here, there])
    assert (catalog.local, catalog.remote) == ([here], [there])
