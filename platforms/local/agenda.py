"""Who gets a card next, and who has to make room for it; keeps how long each has waited."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from platforms.local.deployments import Deployment
from platforms.local.placement import Card, Evict, Need, Refuse, Resident, Start, Verdict, Wait, place
from shared.job import Clock


@dataclass(frozen=True)
class Timing:
    """Seconds: between two looks at the cards, and how long things are borne.

    `patience_s`: for so long a model waits for busy ones, which then get no more jobs; but each goes on for so long
    first, or for as long as it took to load. `crowded_s`: for other programs to leave. `spread_s`: for so long jobs
    wait for their worker, before there is another. `rest_s`: what is to be warm and cannot start is left alone.
    """

    look_s: float = 0.25
    patience_s: float = 30.0
    crowded_s: float = 30.0
    spread_s: float = 2.0
    rest_s: float = 60.0


@dataclass
class Actions:
    """What is to be done: whom to start where, whom to end for whom, who gets no jobs for now, and who fails why."""

    start: list[tuple[Deployment, Start]] = field(default_factory=list)
    end: list[tuple[Deployment, Evict]] = field(default_factory=list)
    drain: set[str] = field(default_factory=set)
    refuse: list[tuple[Deployment, str]] = field(default_factory=list)


class Agenda:
    """Serves what is to be warm first, then who has waited longest since it had a worker.

    `needed` tells how many bytes of a card a deployment needs, None where nobody knows.
    """

    def __init__(self, needed: Callable[[Deployment], int | None], timing: Timing, clock: Clock) -> None:
        self._needed = needed
        self._timing = timing
        self._clock = clock
        self._since: dict[str, float] = {}
        self._crowded: dict[str, float] = {}
        self._waits_at: dict[str, int] = {}

    def decide(
        self, wanting: Mapping[str, Deployment], cards: Sequence[Card], residents: Iterable[Resident]
    ) -> Actions:
        """What to do for those that have no worker, by key, in the order in which their jobs came."""
        now = self._clock()
        self._since = {key: 0.0 if d.warm else self._since.get(key, now) for key, d in wanting.items()}
        for kept in (self._crowded, self._waits_at):
            for key in kept.keys() - wanting.keys():
                del kept[key]
        actions, there = Actions(), list(residents)
        for key in sorted(wanting, key=self._since.__getitem__):
            deployment = wanting[key]
            verdict = self._verdict(deployment, cards, there)
            if isinstance(verdict, Refuse):
                if verdict.ever or now - self._crowded.setdefault(key, now) >= self._timing.crowded_s:
                    actions.refuse.append((deployment, verdict.message))
                continue
            self._crowded.pop(key, None)
            if isinstance(verdict, Start):
                actions.start.append((deployment, verdict))
            elif isinstance(verdict, Evict):
                actions.end.append((deployment, verdict))
                there = [replace(r, state="leaving") if r.name in verdict.names else r for r in there]
            elif verdict.names and not self._may_drain(key, verdict.names, there):
                continue
            else:
                actions.drain.update(verdict.names)
            there.append(Resident("", verdict.card, verdict.size, "busy"))  # on its way, and no other's room
        actions.drain.discard("")
        return actions

    def _may_drain(self, key: str, names: Sequence[str], there: Iterable[Resident]) -> bool:
        """Whether it has waited long enough for these, and each of them has had its turn.

        Without a turn two models that take long to load would end each other while they load, and run nothing.
        """
        now = self._clock()
        had_turn = all(now >= r.turn_ends_at for r in there if r.name in names and r.state == "busy")
        return had_turn and now - self._since[key] >= self._timing.patience_s

    def _verdict(self, deployment: Deployment, cards: Sequence[Card], there: Sequence[Resident]) -> Verdict:
        """Where it goes; while it waits, for the card that it waited for before, whose workers may drain already."""
        need = Need(self._needed(deployment), deployment.card)
        verdict = place(need, cards, there)
        if isinstance(verdict, Wait):
            again = place(replace(need, card=self._waits_at.get(deployment.key, verdict.card)), cards, there)
            verdict = again if isinstance(again, Wait) else verdict
            self._waits_at[deployment.key] = verdict.card
        else:
            self._waits_at.pop(deployment.key, None)
        return verdict

    def another(self, deployment: Deployment, cards: Sequence[Card], there: Sequence[Resident]) -> Start | None:
        """Where one more worker of a deployment can start, as things are."""
        verdict = place(Need(self._needed(deployment), deployment.card), cards, there) if cards else None
        return verdict if isinstance(verdict, Start) else None
