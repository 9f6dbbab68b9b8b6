"""Workers on the cards of this machine: started where jobs wait for their model, ended where nobody needs them."""

import json
import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from platforms.local.agenda import Actions, Agenda, Timing
from platforms.local.demand import Ask, Demand, Look, New
from platforms.local.deployments import Deployment, Deployments
from platforms.local.gpus import Chosen
from platforms.local.memory import Memory
from platforms.local.placement import Card, Resident, Start, State, gigabytes
from platforms.local.seats import Seat, Starter
from platforms.local.server import LocalServer
from platforms.local.sizes import Sizes
from shared.errors import ENDINGS, InsufficientCapacity, Internal
from shared.plan import Planner

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Placing:
    """On which cards workers are placed, how patiently, and who is told when they come and go."""

    gpus: Chosen
    timing: Timing = field(default_factory=Timing)
    say: Callable[[str], None] = log.info


class Fleet:
    """Keeps the workers that are needed, in a thread of its own.

    Args:
        planners: what each endpoint serves.
        most: how many workers a model may have, each on another card.

    Raises:
        InvalidInput: models.json pins a model to a card that is not among the chosen ones.
    """

    def __init__(
        self,
        server: LocalServer,
        planners: Mapping[str, Planner],
        starter: Starter,
        placing: Placing,
        data: Path,
        *,
        most: int = 1,
    ) -> None:
        gpus = placing.gpus
        self.seats: list[Seat] = []
        self._server = server
        self._deployments = {name: Deployments(name, planner, gpus.numbers) for name, planner in planners.items()}
        self._warm = [d for each in self._deployments.values() for d in each.listed.values() if d.warm]
        self._starter = starter
        self._memory = Memory(gpus.inventory, gpus.numbers, Sizes(data / "sizes.json"))
        self._most = most
        self._timing = placing.timing
        self._say = placing.say
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._demand = Demand(server.backends, self.seats, self._wake.set)
        self._agenda = Agenda(self._memory.needed, placing.timing, self._now)
        self._resting: dict[str, float] = {}
        self._failures: dict[str, int] = {}  # of workers that had to make room, by deployment
        self._error: InsufficientCapacity | None = None
        self._thread = threading.Thread(target=self._keep, name="fleet", daemon=True)
        for backend in server.backends.values():
            backend.desk.on_ready, backend.desk.on_done = self._on_ready, self._on_done
            backend.desk.on_stop_pod = self._restart

    def start(self, timeout_s: float | None) -> None:
        """Start, and wait until all models that are to be warm are.

        Raises:
            InsufficientCapacity: one of them cannot be.
        """
        self._thread.start()
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while missing := [d for d in self._warm if not self._is_ready(d)]:
            if self._error is not None:
                raise self._error
            if until is not None and time.monotonic() > until:
                raise InsufficientCapacity(f"{missing[0].title} was not warm within {timeout_s:.0f} s; see the logs")
            time.sleep(0.05)

    def stop(self) -> None:
        """Let the workers finish what they have."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join()
        ends = [threading.Thread(target=seat.pool.stop) for seat in self.seats]
        for end in ends:
            end.start()
        for end in ends:
            end.join()

    async def warm(self, endpoint: str, pipeline: str, model_id: str | None, wait_s: float) -> bool:
        """Have a worker with a model ready; False where it is not within `wait_s`, and comes later.

        Raises:
            InvalidInput, NotFound: there is no such model.
            InsufficientCapacity: no card can hold it, or its worker does not start.
        """
        deployment = self._deployments[endpoint].of_model(pipeline, model_id)
        if seat := self._seat(deployment):
            seat.used_at = self._now()
        ask = self._demand.asks.setdefault(deployment.key, Ask(deployment))
        self._wake.set()
        await self._demand.wait(ask, wait_s)
        if ask.error is not None:
            raise InsufficientCapacity(ask.error)
        return ask.done

    def _seat(self, deployment: Deployment) -> Seat | None:
        """Where the deployment sits, unless it is on its way out."""
        return next((s for s in list(self.seats) if s.deployment.key == deployment.key and not s.closing), None)

    def _is_ready(self, deployment: Deployment) -> bool:
        seat = self._seat(deployment)
        return seat is not None and seat.pool.is_ready and not seat.draining

    def _now(self) -> float:
        return time.time()

    def _on_ready(self, worker_id: str) -> None:
        if seat := self._demand.seat_of(worker_id):
            seat.pool.note_ready(worker_id)
            seat.used_at = self._now()
            seat.ready_at = seat.ready_at or seat.used_at
            self._wake.set()

    def _on_done(self, worker_id: str) -> None:
        if seat := self._demand.seat_of(worker_id):
            seat.has_run = True
            seat.used_at = self._now()

    def _restart(self, worker_id: str) -> None:
        if seat := self._demand.seat_of(worker_id):
            seat.pool.restart(worker_id)

    def _keep(self) -> None:
        while not self._stopping.is_set():
            try:
                self._turn()
            except Exception:  # such as a driver that does not answer, which may pass
                log.exception("the workers on the cards were not looked after")
            self._wake.wait(self._timing.look_s)
            self._wake.clear()

    def _turn(self) -> None:
        self._bury()
        look = self._server.call(self._demand.look)
        if look.new:
            for job in look.new:
                self._route(job)
            self._wake.set()  # there may be more
            look = self._server.call(self._demand.look)
        self._settle_asks()
        seats = list(self.seats)  # one that has ended leaves it at any time
        cards = self._memory.cards(seats)
        states = {seat: self._state(seat, look) for seat in seats}
        self._end_idle(states)
        wanting = self._wanting(look)
        residents = [seat.as_resident(state, self._timing.patience_s) for seat, state in states.items()]
        self._perform(self._agenda.decide(wanting, cards, residents))
        if not wanting:
            self._spread(look, cards, residents)

    def _route(self, job: New) -> None:
        """Find out which deployment a job needs; one that no worker could run fails here, before a card is used."""
        deployments = self._deployments[job.endpoint]
        try:
            given = json.loads(job.input)
            if (output := deployments.answer(given)) is not None:
                act = partial(self._demand.answer, job, output)
            else:
                act = partial(self._demand.assign, job, deployments.of_job(given))
        except ENDINGS as ending:
            act = partial(self._demand.refuse, job.endpoint, job.job_id, ending)
        except Exception:
            error_id = secrets.token_hex(4)
            log.exception("job %s could not be planned (%s)", job.job_id, error_id)
            hidden = Internal(f"an error of this endpoint; its log has it under {error_id}", error_id=error_id)
            act = partial(self._demand.refuse, job.endpoint, job.job_id, hidden)
        self._server.call(act)

    def _bury(self) -> None:
        """Give up workers that end again and again before their first job, with the jobs that wait for them."""
        for seat in [seat for seat in self.seats if seat.pool.error is not None and not seat.closing]:
            log.error("%s: %s", seat.name, seat.pool.error)
            self.seats.remove(seat)
            self._refuse(seat.deployment, "its worker ends before its first job; the worker's log says why")

    def _refuse(self, deployment: Deployment, why: str) -> None:
        error = InsufficientCapacity(f"{deployment.title}: {why}")
        self._server.call(partial(self._demand.fail, deployment, error))
        self._resting[deployment.key] = self._now() + self._timing.rest_s
        if deployment.warm:
            self._error = error
            log.error("%s", error.message)

    def _settle_asks(self) -> None:
        for ask in list(self._demand.asks.values()):
            if self._is_ready(ask.deployment):
                self._server.call(partial(self._demand.warmed, ask.deployment))

    def _state(self, seat: Seat, look: Look) -> State:
        if seat.closing:
            return "leaving"
        wanted = seat.deployment.key in look.waiting or seat.deployment.key in self._demand.asks
        if look.holds_jobs(seat) or (wanted and not seat.draining):
            seat.used_at = self._now()
            return "kept" if seat.deployment.warm else "busy"
        return "kept" if seat.deployment.warm else "idle"

    def _end_idle(self, states: Mapping[Seat, State]) -> None:
        now = self._now()
        over = [s for s, state in states.items() if state == "idle" and now - s.used_at >= s.deployment.idle_s]
        self._close(over, "it was idle")

    def _close(self, seats: Sequence[Seat], why: str) -> None:
        for seat in self._server.call(partial(self._demand.close, seats)) if seats else ():
            self._say(f"ending {seat.name} on card {seat.card}: {why}")
            self._failures[seat.deployment.key] = seat.pool.failures
            threading.Thread(target=self._end, args=(seat,), daemon=True).start()

    def _end(self, seat: Seat) -> None:
        seat.pool.stop()
        self.seats.remove(seat)
        self._wake.set()

    def _wanting(self, look: Look) -> dict[str, Deployment]:
        """What needs a worker and has none, in the order of its oldest job."""
        now = self._now()
        wanted = {d.key: d for d in self._warm if self._resting.get(d.key, 0) <= now}
        wanted |= {key: ask.deployment for key, ask in list(self._demand.asks.items())}
        wanted |= {key: waiting.deployment for key, waiting in look.waiting.items()}
        seated = {seat.deployment.key for seat in self.seats if not seat.closing}
        queued = {key: waiting.since for key, waiting in look.waiting.items()}
        return {
            key: wanted[key] for key in sorted(wanted.keys() - seated, key=lambda key: (queued.get(key, now), key))
        }

    def _perform(self, actions: Actions) -> None:
        for deployment, at in actions.start:
            self._start(deployment, at)
        for deployment, evict in actions.end:
            self._close([s for s in self.seats if s.name in evict.names], f"{deployment.title} needs its room")
        for deployment, why in actions.refuse:
            self._refuse(deployment, why)
        for seat in self.seats:
            seat.draining = seat.name in actions.drain

    def _start(self, deployment: Deployment, at: Start) -> None:
        failures = self._failures.pop(deployment.key, 0)
        seat = self._starter.start(deployment, at.card, at.size, self._now(), failures)
        self.seats.append(seat)
        self._say(f"starting {seat.name} on card {at.card} ({gigabytes(at.size)}) for {deployment.title}")

    def _spread(self, look: Look, cards: Sequence[Card], residents: Sequence[Resident]) -> None:
        """Another worker for a model whose jobs wait, on a card that has room for it as things are."""
        for key, waiting in look.waiting.items():
            own = [seat for seat in self.seats if seat.deployment.key == key]
            is_late = self._now() - waiting.since > self._timing.spread_s
            if len(own) < self._most and is_late and all(seat.pool.is_ready for seat in own):
                others = [card for card in cards if card.number not in {seat.card for seat in own}]
                if at := self._agenda.another(waiting.deployment, others, residents):
                    self._start(waiting.deployment, at)
                    return
