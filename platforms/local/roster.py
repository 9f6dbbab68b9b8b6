"""What is known of each worker: when it was last heard of, what it must stop, whether it is fit."""

from dataclasses import dataclass, field

_MISSED_PINGS = 3
_REPEAT_STOP_S = 0.5


@dataclass
class Worker:
    """One worker process; `stops` maps a job to the monotonic time at which to send its stop (again)."""

    id: str
    last_seen: float
    polls: int = 0
    ready: bool = False
    dismissed: bool = False
    unhealthy: str | None = None
    stops: dict[str, float] = field(default_factory=dict)
    unsure: set[str] = field(default_factory=set)

    def accepts(self, job_id: str) -> bool:
        """Whether the job can be given to it; not while it may still run an earlier copy."""
        fit = not self.dismissed and self.unhealthy is None
        return fit and job_id not in self.stops and job_id not in self.unsure

    def stop(self, job_id: str) -> None:
        """Send a stop at once, and then again until a ping no longer names the job."""
        self.stops.setdefault(job_id, 0.0)

    def stops_due(self, now: float) -> list[str]:
        """Stops to send now."""
        due = [job_id for job_id, at in self.stops.items() if at <= now]
        self.stops.update(dict.fromkeys(due, now + _REPEAT_STOP_S))
        return due

    def next_stop_in(self, now: float, longest_s: float) -> float:
        """How long a poll may sleep before a stop is due."""
        return max(0.0, min([at - now for at in self.stops.values()] + [longest_s]))

    def forget_unnamed(self, named: set[str]) -> None:
        """A ping arrived: what it does not name has stopped."""
        self.stops = {job_id: at for job_id, at in self.stops.items() if job_id in named}
        self.unsure &= named


class Roster:
    """The workers of one endpoint."""

    def __init__(self, ping_interval_s: float) -> None:
        self._silence_s = _MISSED_PINGS * ping_interval_s
        self._workers: dict[str, Worker] = {}
        self._dead: set[str] = set()

    def see(self, worker_id: str, now: float) -> Worker | None:
        """Note a sign of life; None for a worker whose process has ended (its ping process may outlive it)."""
        if worker_id in self._dead:
            return None
        worker = self._workers.setdefault(worker_id, Worker(worker_id, now))
        worker.last_seen = now
        return worker

    def get(self, worker_id: str) -> Worker | None:
        """A worker, whether or not it is still heard of."""
        return self._workers.get(worker_id)

    def bury(self, worker_id: str) -> None:
        """The worker's process has ended: nothing from it counts any more."""
        self._workers.pop(worker_id, None)
        self._dead.add(worker_id)

    def silent(self, now: float) -> list[Worker]:
        """Workers that have missed their pings and hold no poll open."""
        return [w for w in self._workers.values() if not w.polls and now - w.last_seen > self._silence_s]

    def alive(self, now: float) -> list[Worker]:
        """Workers that are heard of."""
        return [w for w in self._workers.values() if w.polls or now - w.last_seen <= self._silence_s]
