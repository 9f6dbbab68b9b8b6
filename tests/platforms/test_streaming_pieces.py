"""Pieces between the device's thread and the event loop: nothing lost, in order, one wake-up for all that gathers."""

import asyncio
import json
import threading
from collections.abc import Callable

import pytest

from shared.job import Piece
from shared.jobs import outputs
from shared.jobs.outputs import PIECE_LIMIT, split
from shared.jobs.pieces import Pieces


async def heard(pieces: Pieces) -> list[str]:
    """All that comes, look by look."""
    looks = []
    while text := await asyncio.wait_for(pieces.next(), 20):
        looks.append(text)
    return looks


def in_a_thread(work: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_everything_from_another_thread_arrives_once_and_in_order() -> None:
    async def run() -> list[str]:
        pieces, loop = Pieces(), asyncio.get_running_loop()

        def emit() -> None:
            for n in range(20_000):
                pieces.push(Piece(f"{n} "))
            loop.call_soon_threadsafe(pieces.end)

        thread = in_a_thread(emit)
        looks = await heard(pieces)
        thread.join()
        return looks

    assert "".join(asyncio.run(run())) == "".join(f"{n} " for n in range(20_000))


def test_a_piece_wakes_a_loop_that_waits() -> None:
    async def run() -> str:
        pieces = Pieces()
        looking = asyncio.create_task(pieces.next())
        await asyncio.sleep(0)
        in_a_thread(lambda: pieces.push(Piece("late"))).join()
        return await asyncio.wait_for(looking, 20)

    assert asyncio.run(run()) == "late"


def test_what_gathers_between_two_looks_comes_in_one() -> None:
    async def run() -> list[str]:
        pieces = Pieces()
        for text in ("a", "b"):
            pieces.push(Piece(text))
        first = await pieces.next()
        for text in ("c", "d"):
            pieces.push(Piece(text))
        pieces.end()
        return [first, *await heard(pieces)]

    assert asyncio.run(run()) == ["ab", "cd"]


def test_the_loop_is_woken_once_until_it_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> list[int]:
        loop = asyncio.get_running_loop()
        woken: list[object] = []
        monkeypatch.setattr(loop, "call_soon_threadsafe", lambda call, *args: woken.append(call))
        pieces, counts = Pieces(), []
        for _ in range(3):
            for _ in range(100):
                pieces.push(Piece("x"))
            counts.append(len(woken))
            await pieces.next()
        return counts

    assert asyncio.run(run()) == [1, 2, 3]


def test_the_end_lets_go_of_who_waits_and_stays_the_end() -> None:
    async def run() -> list[str]:
        pieces = Pieces()
        looking = asyncio.create_task(pieces.next())
        await asyncio.sleep(0)
        pieces.end()
        return [await asyncio.wait_for(looking, 20), await asyncio.wait_for(pieces.next(), 20)]

    assert asyncio.run(run()) == ["", ""]


def test_a_look_that_was_cancelled_loses_nothing() -> None:
    async def run() -> str:
        pieces = Pieces()
        looking = asyncio.create_task(pieces.next())
        await asyncio.sleep(0)
        looking.cancel()
        await asyncio.wait({looking})
        pieces.push(Piece("kept"))
        return await asyncio.wait_for(pieces.next(), 20)

    assert asyncio.run(run()) == "kept"


def test_a_piece_for_a_loop_that_is_gone_is_nobodys() -> None:
    async def make() -> Pieces:
        return Pieces()

    asyncio.run(make()).push(Piece("x"))


@pytest.mark.parametrize("text", ["", "short", "x" * (PIECE_LIMIT - len('{"output": ""}'))])
def test_what_fits_is_not_split(text: str) -> None:
    assert list(split(text)) == [text]


@pytest.mark.parametrize("character", ["x", '"', "\n", "\x00", "\u65e5", "\U0001f468"])
def test_what_does_not_fit_is_split_between_characters(character: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputs, "PIECE_LIMIT", 100)
    text = character * 1000
    parts = list(split(text))
    assert "".join(parts) == text
    assert max(len(json.dumps({"output": part}, ensure_ascii=False).encode()) for part in parts) <= 100
