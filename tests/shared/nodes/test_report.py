"""What nodes say of themselves."""

import pytest

from shared.nodes.report import Report
from tests.shared.nodes.stand_in import MODEL, capabilities


def test_a_container_says_which_models_are_warm() -> None:
    assert Report.of_container(capabilities(warm=True)).is_warm(("draw", MODEL))
    assert not Report.of_container(capabilities(warm=True)).is_warm(("paint", MODEL))
    assert not Report.of_container(capabilities(warm=False)).is_warm(("draw", MODEL))


def test_a_pipeline_without_models_is_warm() -> None:
    document = capabilities()
    document["capabilities"] = [{"pipeline": "sleep", "models": []}]
    assert Report.of_container(document).is_warm(("sleep", "anything"))


def test_it_is_given_one_job_more_than_it_runs_for_each() -> None:
    assert Report.of_container(capabilities(capacity=3)).places == 6


def test_no_more_than_its_queue_takes() -> None:
    document = capabilities(capacity=3)
    document["load"]["queue_max"] = 1
    assert Report.of_container(document).places == 4


def test_fields_of_later_versions_are_passed_over() -> None:
    assert Report.of_container({**capabilities(busy=2), "later": 1}).busy == 2


@pytest.mark.parametrize("lie", [None, [], "warm", {}, {"load": {"capacity": 0}, "capabilities": []}])
def test_a_document_of_another_shape_is_refused(lie: object) -> None:
    with pytest.raises(ValueError, match="Capabilities"):
        Report.of_container(lie)


def test_an_endpoint_is_ready_where_it_has_workers() -> None:
    jobs = {"inProgress": 2, "inQueue": 5, "completed": 9}
    up = Report.of_endpoint({"jobs": jobs, "workers": {"idle": 1, "running": 2, "ready": 1, "throttled": 0}})
    down = Report.of_endpoint({"jobs": jobs, "workers": {"idle": 0, "running": 0, "ready": 0}})
    assert (up.is_warm(("draw", MODEL)), up.capacity, up.busy, up.places) == (True, 3, 7, None)
    assert not down.is_warm(("draw", MODEL))
