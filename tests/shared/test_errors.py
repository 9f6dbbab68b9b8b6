"""The endings as they appear on the wire."""

import pytest

from shared import errors

CODES = {
    "invalid_input": 422,
    "unauthorized": 401,
    "not_found": 404,
    "request_timeout": 408,
    "media_too_large": 413,
    "result_too_large": 413,
    "queue_full": 429,
    "cancelled": 499,
    "internal": 500,
    "delivery_failed": 502,
    "model_unavailable": 503,
    "out_of_memory": 503,
    "insufficient_capacity": 503,
    "deadline_exceeded": 504,
}


@pytest.mark.parametrize(("code", "status"), CODES.items())
def test_each_code_has_its_http_status(code: str, status: int) -> None:
    assert errors.http_status_of(code) == status


def test_a_conflict_is_invalid_input_with_a_status_of_its_own() -> None:
    assert (errors.Conflict("used").code, errors.Conflict("used").http_status) == ("invalid_input", 409)


def test_a_foreign_code_is_an_internal_error() -> None:
    assert errors.http_status_of("somebody_elses") == 500


def test_an_ending_reads_as_code_and_message_and_carries_its_details() -> None:
    error = errors.InvalidInput("width: must be a multiple of 8", errors=[{"loc": ["width"]}])
    assert str(error) == "invalid_input: width: must be a multiple of 8"
    assert error.as_dict()["errors"] == [{"loc": ["width"]}]
    assert error.as_dict()["retryable"] is False


@pytest.mark.parametrize("stop", [errors.Cancelled, errors.DeadlineExceeded])
def test_stops_are_not_exceptions(stop: type[BaseException]) -> None:
    assert not issubclass(stop, Exception)


def test_the_drawn_tree_names_every_ending() -> None:
    drawn = errors.__doc__ or ""
    names = [
        name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.Ending)
    ]
    assert [name for name in names if name not in drawn] == []
