"""A fetcher in an internet of one server, and what it complains of."""

import socket

import pytest

from shared.errors import InvalidInput, JobError
from shared.media.fetch import Fetcher
from tests.shared.media.loopback import Loopback

PUBLIC = "93.184.215.14"


class Names:
    """A resolver that answers from a table: a list is answered one after the other, the last one for ever."""

    def __init__(self, **answers: list[list[str]]) -> None:
        self._answers = {name.replace("_", "."): list(turns) for name, turns in answers.items()}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        turns = self._answers[host]
        return turns.pop(0) if len(turns) > 1 else turns[0]


class Internet:
    """Dials a loopback server in place of PUBLIC, and nothing else; keeps the addresses that were dialled."""

    def __init__(self, server: Loopback) -> None:
        self._server = server
        self.dialled: list[tuple[str, int]] = []

    def __call__(self, address: tuple[str, int], timeout_s: float) -> socket.socket:
        self.dialled.append(address)
        if address[0] != PUBLIC:
            raise ConnectionRefusedError(address)
        return socket.create_connection(("127.0.0.1", self._server.port), timeout_s)


def fetcher_for(server: Loopback, max_bytes: int = 100_000, timeout_s: float = 20) -> Fetcher:
    """One that may reach a server on loopback."""
    return Fetcher(max_bytes, timeout_s, server.netloc, backoff_s=0)


def complaint(fetcher: Fetcher, url: str, error: type[JobError] = InvalidInput) -> str:
    """What is said of a URL that cannot be fetched."""
    with pytest.raises(error) as caught:
        fetcher.get(url)
    return caught.value.message
