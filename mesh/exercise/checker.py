"""Judges a recorded history against the databases, after healing and quiescence. Pure.

In the manner of Jepsen's total-queue and bank tests: what was answered happened once, what was
refused did not, what is unknown happened once or not at all, and everybody saw a history that can
have been. The rules:

C1  keys        each answered key has its effect, once, and its answer; an unknown one at most; a refused
                one none; nothing has a key that nobody sent
C2  deliveries  each delivery that was answered is in the ledger once, an unknown one at most
C3  stock       no answer ever showed less than nothing
C4  log         what an order's events tell is what its history says, step by step
C5  fold        the state is what the events add up to
C6  path        every step is in the table of moves, every order shown as it was, none under way
C7  sessions    nobody was shown less than was known when he asked
C8  privacy     nobody was shown another's order; none was ordered after its owner was gone
C9  people      who registered can log in, who was told to be erased is gone
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from msgspec import Struct

from mesh.exercise.facts import Stock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mesh.exercise.facts import Effect, Facts
    from mesh.exercise.history import Entry

VIOLATIONS_MAX = 1000
"""Named at most: beyond this something is wrong with everything."""

DONE_BELOW = 400

ANYONE = "anyone"
"""The caller of whom no answer is kept."""

LEAVING_MS = 5000
"""What was asked before somebody was gone is answered within this: deadlines are of 2 s."""


class Wrong(Struct, frozen=True):
    """One violation: which rule, by whom, and why."""

    rule: str
    id: str
    detail: str


class Judgement(Struct, frozen=True):
    """What a history was found to be. `resolved` are unknown ends that the databases settle."""

    wrong: tuple[Wrong, ...]
    judged: int
    unknown: int
    happened: int
    not_happened: int

    @property
    def ok(self) -> bool:
        """Whether it can have been."""
        return not self.wrong


@dataclass
class _Request:
    """All tries of one key: how each ended, and the ids that they were answered with."""

    visit: int = -1
    operation: str = ""
    sent: dict[str, object] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    answered: set[str] = field(default_factory=set)


@dataclass
class _Reading:
    """What one pass over the history leaves to be judged."""

    requests: dict[str, _Request] = field(default_factory=lambda: defaultdict(_Request))
    open: dict[int, Entry] = field(default_factory=dict)
    floors: dict[int, int] = field(default_factory=dict)
    newest: dict[str, int] = field(default_factory=dict)
    joined: set[str] = field(default_factory=set)
    left: set[str] = field(default_factory=set)
    erased: set[str] = field(default_factory=set)
    forgotten: set[int] = field(default_factory=set)
    """Visits whose keys went with whom they were of."""
    entries: int = 0


def judge(history: Iterable[Entry], facts: Facts) -> Judgement:
    """Judge a whole history; what has no end is unknown."""
    reading = _Reading()
    wrong: list[Wrong] = []
    for entry in history:
        reading.entries += 1
        for found in _take(entry, reading, facts):
            if len(wrong) < VIOLATIONS_MAX:
                wrong.append(found)
    for entry in reading.open.values():
        _end(entry, reading, "unknown")
    for rule in (_keys, _deliveries, _steps, _fold, _paths, _closed, _people):
        wrong += list(rule(reading, facts))[: VIOLATIONS_MAX - len(wrong)]
    unknown = [
        key
        for key, request in reading.requests.items()
        if "unknown" in request.ends and "ok" not in request.ends
    ]
    happened = sum(bool(_done(facts, key)) for key in unknown)
    return Judgement(tuple(wrong), reading.entries, len(unknown), happened, len(unknown) - happened)


def _take(entry: Entry, reading: _Reading, facts: Facts) -> Iterator[Wrong]:
    """One line of the history: what it shows at once, and what is kept of it."""
    if entry.type == "invoke":
        reading.open[entry.call] = entry
        asked = entry.value.get("id")
        reading.floors[entry.call] = reading.newest.get(str(asked), 0)
        if entry.operation.endswith(".erase"):
            reading.left.add(str(asked))
            reading.forgotten.add(entry.visit)
        if entry.key is not None:
            request = reading.requests[entry.key]
            request.operation, request.sent = entry.operation, entry.value
            request.visit = entry.visit
        return
    invoked = reading.open.pop(entry.call, None)
    if invoked is None:
        yield Wrong("C1", f"call {entry.call}", "has an end without a beginning")
        return
    floor = reading.floors.pop(entry.call, 0)
    _end(entry, reading, entry.type)
    if entry.type == "ok":
        if entry.operation.endswith(".erase"):
            reading.erased.add(str(invoked.value.get("id")))
        yield from _shown(entry, floor, reading, facts)


def _end(entry: Entry, reading: _Reading, end: str) -> None:
    if entry.key is None:
        return
    request = reading.requests[entry.key]
    request.ends.append(end)
    if end == "ok" and "id" in entry.value and "id" not in request.sent:
        request.answered.add(str(entry.value["id"]))
    if end == "ok" and entry.operation.endswith(".register"):
        reading.joined.add(str(entry.value.get("id")))


def _shown(entry: Entry, floor: int, reading: _Reading, facts: Facts) -> Iterator[Wrong]:
    """What one answer shows: C3, C6, C7, C8."""
    items = entry.value.get("items")
    entities = [entry.value] if not isinstance(items, list) else [*items]
    for raw in entities:
        seen = cast("dict[str, object]", raw)
        name = str(seen.get("id"))
        numbers = [seen.get(each) for each in ("on_hand", "reserved", "available")]
        if any(isinstance(each, int) and each < 0 for each in numbers) or _less(seen):
            yield Wrong("C3", name, f"was shown as {seen}")
        version = seen.get("version")
        if isinstance(version, int) and name.startswith("ord_"):
            if version < floor:
                yield Wrong("C7", name, f"was shown at version {version}, {floor} was known")
            reading.newest[name] = max(reading.newest.get(name, 0), version)
            yield from _as_it_was(name, version, seen, facts)
            yield from _owners(name, entry, seen, facts)


def _less(seen: dict[str, object]) -> bool:
    on_hand, reserved = seen.get("on_hand"), seen.get("reserved")
    return isinstance(on_hand, int) and isinstance(reserved, int) and reserved > on_hand


def _as_it_was(name: str, version: int, seen: dict[str, object], facts: Facts) -> Iterator[Wrong]:
    if facts.orders is None:
        return
    steps = {step.version: step.new for step in facts.steps.get(name, ())}
    if steps.get(version) != seen.get("status"):
        was = steps.get(version, "nowhere")
        yield Wrong(
            "C6", name, f"was shown {seen.get('status')} at version {version}: it was {was}"
        )


def _owners(name: str, entry: Entry, seen: dict[str, object], facts: Facts) -> Iterator[Wrong]:
    owner, viewer = seen.get("user_id"), facts.people.get(entry.by or "")
    if owner and viewer and owner != viewer and viewer not in facts.staff:
        yield Wrong("C8", name, f"of {owner} was shown to {entry.by}")


def _done(facts: Facts, key: str) -> list[Effect]:
    """The effects of a key that were carried out and answered, or begun and given an entity."""
    return [
        effect
        for effect in facts.keys.get(key, ())
        if effect.status is None or effect.status < DONE_BELOW
    ]


def _promised(effect: Effect, keeping: set[tuple[str, str]]) -> bool:
    """Whether its answer is kept with it: of routes that keep any, for callers with a name."""
    return effect.caller != ANYONE and (effect.service, effect.route) in keeping


def _keys(reading: _Reading, facts: Facts) -> Iterator[Wrong]:
    """C1."""
    entities: dict[tuple[str, str], str] = {}
    every = (each for effects in facts.keys.values() for each in effects)
    keeping = {(each.service, each.route) for each in every if each.status is not None}
    for key, request in reading.requests.items():
        done, who = _done(facts, key), f"{request.operation} {key}"
        if "ok" in request.ends and request.visit not in reading.forgotten:
            if not done:
                yield Wrong("C1", who, "was answered, and has left nothing")
            elif all(each.status is None and _promised(each, keeping) for each in done):
                yield Wrong("C1", who, "was answered, and the answer is not kept")
        if set(request.ends) == {"fail"} and any(each.status is not None for each in done):
            yield Wrong("C1", who, "was refused each time, and happened")
        if len(done) > 1:
            yield Wrong("C1", who, f"happened {len(done)} times")
        if len(request.answered) > 1:
            yield Wrong("C1", who, f"was answered with {', '.join(sorted(request.answered))}")
        yield from _effects(key, who, request, facts, entities)
    for key in facts.keys.keys() - reading.requests.keys():
        yield Wrong("C1", key, "has an effect, and nobody sent it")


def _effects(
    key: str,
    who: str,
    request: _Request,
    facts: Facts,
    entities: dict[tuple[str, str], str],
) -> Iterator[Wrong]:
    """Of one key: that it made what it was answered with, that this is there, and nobody else's."""
    for effect in _done(facts, key):
        if not effect.entity:
            continue
        if request.answered and effect.entity not in request.answered:
            yield Wrong("C1", who, f"was answered with another than {effect.entity}")
        if entities.setdefault((effect.route, effect.entity), key) != key:
            yield Wrong("C1", effect.entity, f"is the effect of two keys, one is {key}")
    made = {effect.entity for effect in _done(facts, key)} | request.answered
    there = made if facts.orders is None else facts.orders.keys()
    for entity in sorted(made - there):
        if entity.startswith("ord_"):
            yield Wrong("C1", who, f"has made {entity}, which is not there")


def _deliveries(reading: _Reading, facts: Facts) -> Iterator[Wrong]:
    """C2."""
    if facts.stock is None:
        return
    asked = set[str]()
    for request in reading.requests.values():
        if not request.operation.endswith(".restock"):
            continue
        reason = str(request.sent.get("reason"))
        asked.add(reason)
        rows = facts.restocks.get(reason, [])
        delta = request.sent.get("delta")
        if set(request.ends) == {"fail"} and rows:
            yield Wrong("C2", reason, "was refused, and is in the ledger")
        elif rows != [delta] and (rows or "ok" in request.ends):
            yield Wrong("C2", reason, f"of {delta} is in the ledger as {rows}")
    for reason in sorted(facts.restocks.keys() - asked):
        yield Wrong("C2", reason, "is in the ledger, and nobody brought it")


def _steps(_: _Reading, facts: Facts) -> Iterator[Wrong]:
    """C4: of orders whose events are all kept."""
    for name in facts.orders or {}:
        told = [(step.version, step.old, step.new) for step in facts.told.get(name, ())]
        steps = [(step.version, step.old, step.new) for step in facts.steps.get(name, ())]
        if facts.whole and told != steps:
            yield Wrong("C4", name, f"was told as {told}, its history is {steps}")
    for name in sorted(facts.told.keys() - (facts.orders or {}).keys()):
        yield Wrong("C4", name, "was told of, and is not there")


def _fold(_: _Reading, facts: Facts) -> Iterator[Wrong]:
    """C5: the reference reducer: the last status told, the sum of all stock told."""
    if not facts.whole:
        return
    for name, order in (facts.orders or {}).items():
        told = facts.told.get(name)
        last = (told[-1].version, told[-1].new) if told else (0, "nothing")
        if last != (order.version, order.status):
            yield Wrong("C5", name, f"is {order.status} at {order.version}, told was {last}")
    for name, stock in (facts.stock or {}).items():
        added = facts.stock_told.get(name, Stock(0, 0))
        if added != stock:
            yield Wrong("C5", name, f"has {stock}, its events add up to {added}")
    for name in sorted(facts.stock_told.keys() - (facts.stock or {}).keys()):
        yield Wrong("C5", name, "was told of, and is not there")


def _paths(_: _Reading, facts: Facts) -> Iterator[Wrong]:
    """C6: legal steps, each from where the last one led, and rest at the end."""
    for name, steps in facts.steps.items():
        state = ""
        for number, step in enumerate(steps, 1):
            if step.version != number or step.old != state:
                yield Wrong("C6", name, f"goes on from {step.old} at {step.version}, was {state}")
            if facts.moves and (step.old, step.new) not in facts.moves:
                yield Wrong("C6", name, f"went from {step.old or 'nothing'} to {step.new}")
            state = step.new
    for name, order in (facts.orders or {}).items():
        if order.status in facts.unsettled:
            yield Wrong("C6", name, f"is still {order.status}")


def _closed(_: _Reading, facts: Facts) -> Iterator[Wrong]:
    """C8: nothing is ordered by who is gone."""
    for name, order in (facts.orders or {}).items():
        gone_ms = facts.closed.get(order.user_id)
        first = next(iter(facts.steps.get(name, ())), None)
        if gone_ms is not None and first is not None and first.at_ms > gone_ms + LEAVING_MS:
            yield Wrong("C8", name, "was ordered after its owner was gone")


def _people(reading: _Reading, facts: Facts) -> Iterator[Wrong]:
    """C9."""
    for user in reading.joined - reading.left if facts.users is not None else ():
        if (facts.users or {}).get(user) != "active":
            yield Wrong("C9", user, "has registered, and is not active")
        elif facts.credentials is not None and user not in facts.credentials:
            yield Wrong("C9", user, "has registered, and cannot log in")
    for user in sorted(reading.erased & (facts.users or {}).keys()):
        yield Wrong("C9", user, "was told to be erased, and is there")
