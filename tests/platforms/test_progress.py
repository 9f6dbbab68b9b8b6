"""Progress posts: in order, one at a time, and none after the result."""

import asyncio
from typing import Any

from platforms.runpod.progress import ProgressSender
from shared.job import Piece, Progress


class Wire:
    """Takes posts, each of which lasts until it is let go."""

    def __init__(self) -> None:
        self.posted: list[dict[str, Any]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.let_go = asyncio.Event()
        self.arrived = asyncio.Event()

    async def post(self, progress: dict[str, Any]) -> None:
        self.posted.append(progress)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.arrived.set()
        await self.let_go.wait()
        self.at_once -= 1


def steps(wire: Wire) -> list[int | None]:
    return [post.get("step") for post in wire.posted]


def push(sender: ProgressSender, *numbers: int, preview: str | None = None) -> None:
    for n in numbers:
        sender.push(Progress(n, "running", step=n, steps=9, preview=preview))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_the_first_report_leaves_at_once() -> None:
    async def run() -> list[int | None]:
        wire = Wire()
        wire.let_go.set()
        sender = ProgressSender(wire.post, every_s=60)
        push(sender, 1)
        await asyncio.wait_for(wire.arrived.wait(), 5)
        await sender.close()
        return steps(wire)

    assert asyncio.run(run()) == [1]


def test_while_one_is_in_flight_only_the_latest_is_kept() -> None:
    async def run() -> Wire:
        wire = Wire()
        sender = ProgressSender(wire.post, every_s=0)
        push(sender, 1)
        await wire.arrived.wait()
        push(sender, 2, 3, 4)
        await settle()
        wire.arrived.clear()
        wire.let_go.set()
        await asyncio.wait_for(wire.arrived.wait(), 5)
        await sender.close()
        return wire

    wire = asyncio.run(run())
    assert steps(wire) == [1, 4]
    assert wire.most_at_once == 1


def test_close_waits_for_the_post_in_flight_and_nothing_follows() -> None:
    async def run() -> list[int | None]:
        wire = Wire()
        sender = ProgressSender(wire.post, every_s=0)
        push(sender, 1)
        await wire.arrived.wait()
        push(sender, 2)
        closing = asyncio.create_task(sender.close())
        await settle()
        assert not closing.done()
        wire.let_go.set()
        await asyncio.wait_for(closing, 5)
        push(sender, 3)
        await settle()
        return steps(wire)

    assert asyncio.run(run()) == [1]


def test_the_last_picture_stays_until_there_is_a_newer_one() -> None:
    async def run() -> list[str | None]:
        wire = Wire()
        sender = ProgressSender(wire.post, every_s=0)
        push(sender, 1)
        await wire.arrived.wait()
        push(sender, 2, preview="data:picture")
        push(sender, 3)
        await settle()
        wire.arrived.clear()
        wire.let_go.set()
        await asyncio.wait_for(wire.arrived.wait(), 5)
        await sender.close()
        return [post.get("preview") for post in wire.posted]

    assert asyncio.run(run()) == [None, "data:picture"]


def test_pieces_of_a_stream_are_not_progress() -> None:
    async def run() -> list[int | None]:
        wire = Wire()
        sender = ProgressSender(wire.post)
        sender.push(Piece("text"))
        await settle()
        await sender.close()
        return steps(wire)

    assert asyncio.run(run()) == []
