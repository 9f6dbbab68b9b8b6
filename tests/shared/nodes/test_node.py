"""Which node gets the next job, and for how long one that failed is left alone."""

import pytest

from shared.nodes.node import BACK_OFF_S, Address, Node, best
from shared.nodes.report import Report

WANTED = ("draw", "acme/draw")
WARM = Report(warm=frozenset({WANTED}), capacity=2, places=4)
COLD = Report(capacity=2, places=4)


def node(name: str, report: Report = COLD, *, ours: int = 0, others: int = 0) -> Node:
    return Node(Address(name, f"http://{name}"), report, ours=ours, others=others)


def chosen(*nodes: Node) -> str | None:
    found = best(list(nodes), WANTED, 0.0)
    return found.address.name if found else None


def test_a_warm_node_comes_before_a_cold_one_that_is_less_busy() -> None:
    assert chosen(node("cold"), node("warm", WARM, ours=1, others=2)) == "warm"


def test_of_two_warm_nodes_the_less_busy_one_is_chosen() -> None:
    assert chosen(node("a", WARM, others=2), node("b", WARM, ours=1)) == "b"


def test_load_counts_for_each_that_runs_at_once() -> None:
    large = Report(warm=frozenset({WANTED}), capacity=8, places=16)
    assert chosen(node("small", WARM, ours=1), node("large", large, ours=3)) == "large"


def test_of_equals_the_first_is_chosen() -> None:
    assert chosen(node("a"), node("b")) == "a"


def test_a_full_warm_node_gives_way_to_a_cold_one() -> None:
    assert chosen(node("warm", WARM, ours=4), node("cold")) == "cold"


def test_an_endpoint_is_never_full() -> None:
    assert chosen(node("endpoint", Report(None, places=None), ours=1000)) == "endpoint"


def test_a_node_that_did_not_answer_comes_last() -> None:
    silent = node("silent", WARM)
    silent.asked()
    assert chosen(silent, node("cold")) == "cold"
    assert chosen(silent) == "silent"


def test_nobody_is_chosen_where_all_are_full_or_left_alone() -> None:
    failed = node("failed")
    failed.failed(0.0)
    assert chosen(failed, node("full", ours=4)) is None


def test_a_node_that_ran_a_model_counts_as_warm_until_its_next_report() -> None:
    cold = node("cold")
    cold.succeeded(0.0, WANTED)
    assert cold.is_warm(WANTED)
    cold.heard(1.0, COLD)
    assert not cold.is_warm(WANTED)


def test_what_others_have_there_is_what_is_busy_less_our_own() -> None:
    busy = node("busy", ours=2)
    busy.heard(0.0, Report(busy=5))
    assert busy.others == 3


def test_a_node_is_left_alone_twice_as_long_with_each_failure() -> None:
    failing = node("failing")
    waits = []
    for _ in range(9):
        failing.failed(100.0)
        waits.append(failing.not_before - 100.0)
    assert waits[:4] == [1.0, 2.0, 4.0, 8.0]
    assert waits[-1] == BACK_OFF_S[1]


def test_a_success_ends_that() -> None:
    failing = node("failing")
    failing.failed(100.0)
    failing.succeeded(100.5, WANTED)
    failing.failed(200.0)
    assert failing.not_before == 201.0


def test_a_node_may_ask_to_be_left_alone_but_not_for_ever() -> None:
    full = node("full")
    full.paused(0.0, 7.0)
    assert full.not_before == 7.0
    full.paused(0.0, 1e6)
    assert full.not_before == BACK_OFF_S[1]


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("https://api.runpod.ai/v2/abc123", "endpoint"),
        ("http://127.0.0.1:8400/v2/media", "endpoint"),
        ("https://host/prefix/v2/media", "endpoint"),
        ("http://10.0.0.2:8000", "container"),
        ("https://acme--draw.modal.run", "container"),
        ("https://host/v2", "container"),
    ],
)
def test_what_a_node_speaks_is_known_by_its_url(url: str, kind: str) -> None:
    assert Address("node-1", url).kind == kind


def test_neither_url_nor_token_shows_where_an_address_is_printed() -> None:
    assert "secret" not in repr(Address("node-1", "http://secret-host", "secret-token"))
