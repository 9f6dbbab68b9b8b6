"""Routes that are answered before the application looks for them, over a real application."""

from collections.abc import Iterator

import pytest
from fastapi import FastAPI, Request, Response
from fastapi.testclient import TestClient
from starlette.requests import ClientDisconnect

from shared.jobs.direct import Direct


async def _direct(request: Request) -> Response:
    return Response(b"direct " + await request.body())


async def _gone(request: Request) -> Response:
    raise ClientDisconnect


async def _wrong(request: Request) -> Response:
    raise ZeroDivisionError("of the secret by 0")


@pytest.fixture
def client() -> Iterator[TestClient]:
    app = FastAPI()

    @app.api_route("/known", methods=["GET", "POST"])
    async def known() -> Response:
        return Response(b"routed")

    endpoints = {"/known": _direct, "/gone": _gone, "/wrong": _wrong}
    with TestClient(Direct(app, endpoints), raise_server_exceptions=False) as client:
        yield client


def test_a_known_path_is_answered_without_the_application(client: TestClient) -> None:
    assert client.post("/known", content=b"body").content == b"direct body"


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/known", 200), ("POST", "/other", 404)])
def test_all_else_is_the_applications(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert not answer.content.startswith(b"direct")


def test_a_client_that_has_gone_is_no_error(client: TestClient) -> None:
    assert client.post("/gone").status_code == 400


def test_a_bug_is_answered_as_one_and_left_to_the_server_to_log(client: TestClient) -> None:
    answer = client.post("/wrong")
    assert (answer.status_code, answer.json()["detail"]["code"]) == (500, "internal")
    assert "secret" not in answer.text
    with pytest.raises(ZeroDivisionError):
        TestClient(client.app).post("/wrong")
