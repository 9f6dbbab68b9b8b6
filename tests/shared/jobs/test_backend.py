import json

import pytest

from shared.errors import Conflict, Internal, NotFound, http_status_of
from shared.jobs.backend import JobView, find_backend
from shared.jobs.failures import failure


def test_a_view_is_written_as_runpod_does() -> None:
    view = JobView("j", "COMPLETED", b'{"x": [1]}', delay_ms=0, execution_ms=5, worker_id="w")
    assert view.to_json() == (
        b'{"delayTime":0,"executionTime":5,"id":"j","output":{"x": [1]},"status":"COMPLETED","workerId":"w"}'
    )
    assert view.ended


def test_what_is_not_known_is_left_out() -> None:
    assert json.loads(JobView("j", "IN_QUEUE").to_json({"webhook": b'"u"'})) == {
        "id": "j",
        "status": "IN_QUEUE",
        "webhook": "u",
    }


def test_texts_are_escaped() -> None:
    assert json.loads(JobView("j", "FAILED", error='"\n\ud800').to_json())["error"] == '"\n\ud800'


def test_an_unknown_endpoint_names_those_there_are() -> None:
    with pytest.raises(NotFound, match="no endpoint `x`; there are: "):
        find_backend({}, "x")


def test_a_conflict_does_not_change_what_its_code_means() -> None:
    assert (Conflict("x").http_status, http_status_of("invalid_input")) == (409, 422)
    assert type(failure("invalid_input: x")).__name__ == "InvalidInput"
    assert type(failure("internal: x")) is Internal
