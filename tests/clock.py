"""Time that passes when a test says so."""


class Clock:
    """A clock in seconds, moved by hand: `now` may be set, and `advance` adds to it."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
