"""Every promise of every service, asked of copies of all databases taken at one cut.

A question is a query whose rows are the offenders, from a service's table, or one about events that
holds for any service. Refuses to mend: what it finds is named, and left as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import chain, islice
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import codec, database
from mesh.errors import Broken, DatabaseBroken, InvalidInput
from mesh.exercise import ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mesh.database import Copies, Value
    from mesh.framework.service import Agreement, Invariant, Operation, Service

SHOWN_MAX = 20
"""Offenders that are named; of more only the number is told."""

CUT_MS = 5000
"""From the moments at which the writers stood to the one that the cut is said to be of, at most: the log
is copied after them, and holds what was told since."""

BUS = "bus"
HOSTED = "hosted"
"""The copies that are no service's: the bus's log, and its file of guests' events."""

LOGGED = "log-as-told"
ACCOUNTED = "events-accounted-for"
"""Names of what holds of events in any mesh."""

EXPLAINERS = ("explain", "history", "get")
"""Operations that tell of one entity, the one that tells most first."""


class Violation(Struct, frozen=True):
    """One offender: which, what is wrong with it, and the command that tells more."""

    id: str
    detail: str = ""
    hint: str | None = None


class Check(Struct, frozen=True, kw_only=True):
    """What one question found. `checked` None: the table does not say what was looked at."""

    name: str
    service: str
    sentence: str
    ok: bool
    checked: int | None
    detail: str = ""
    """What was counted, in words, where a number does not say it."""
    violations: tuple[Violation, ...] = ()
    more: int = 0
    """Offenders beyond those named."""


@dataclass(frozen=True)
class Question:
    """One promise, ready to be asked."""

    name: str
    service: str
    sentence: str
    ask: Callable[[], Check]


def questions(
    services: Mapping[str, Service],
    copies: Mapping[str, Path],
    now_ms: int,
    expected: Collection[str],
) -> list[Question]:
    """Everything there is to ask, the services' own promises first.

    Args:
        services: tables of those that have a copy.
        copies: of each service's database, and of the bus's two files where they are.
        now_ms: the moment of the cut.
        expected: every service with a database that the file has, also those without a copy.
    """
    found: list[Question] = []
    for name, table in services.items():
        for row in (*table.invariants, *table.agreements):
            beside = getattr(row, "beside", ())
            if all(other in copies for other in beside):
                ask = partial(_asked, services, name, row, copies, now_ms)
                found.append(Question(row.name, name, row.sentence, ask))
    for name in services:
        found.append(
            _of(name, copies, "one-effect-a-key", "each key has had one effect", _one_effect)
        )
        found.append(
            _of(name, copies, "events-chained", "its events are chained, none is gone", _chained)
        )
    if BUS in copies:
        logged = "the log is chained, and what its producers told"
        ask = partial(_logged, services, copies, logged, now_ms, expected)
        found.append(Question(LOGGED, BUS, logged, ask))
    for name in services:
        found += _subscriptions(name, copies)
    return found


def _of(
    name: str,
    copies: Mapping[str, Path],
    rule: str,
    sentence: str,
    judge: Callable[[Copies, str], tuple[int, Sequence[ledger.Offence], int]],
) -> Question:
    def ask() -> Check:
        with database.opened(copies[name], {}) as copy:
            checked, wrong, count = judge(copy, name)
        return _check(rule, name, sentence, checked, wrong, count)

    return Question(rule, name, sentence, ask)


def _check(
    rule: str,
    service: str,
    sentence: str,
    checked: int | None,
    wrong: Sequence[ledger.Offence],
    count: int,
    hint: Callable[[str], str | None] = lambda _: None,
    detail: str = "",
) -> Check:
    return Check(
        name=rule,
        service=service,
        sentence=sentence,
        ok=not count,
        checked=checked,
        detail=detail,
        violations=tuple(Violation(who, why, hint(who)) for who, why in wrong[:SHOWN_MAX]),
        more=count - min(count, SHOWN_MAX),
    )


def _asked(
    services: Mapping[str, Service],
    own: str,
    row: Invariant | Agreement,
    copies: Mapping[str, Path],
    now_ms: int,
) -> Check:
    beside = {name: copies[name] for name in getattr(row, "beside", ())}
    with database.opened(copies[own], beside) as copy:
        rows, count = copy.ask(row.offenders, {"now_ms": now_ms}, SHOWN_MAX)
        checked = None
        if row.of:
            ((checked,),), _ = copy.ask(f"SELECT count(*) FROM {row.of}", {}, 1)  # noqa: S608  the table's own
    wrong = [(_text(first), " ".join(map(_text, rest))) for first, *rest in rows]
    hint = partial(_hint, [services[each] for each in (own, *beside) if each in services])
    return _check(row.name, own, row.sentence, _count(checked), wrong, count, hint)


def _count(value: Value) -> int | None:
    return value if isinstance(value, int) else None


def _text(value: Value) -> str:
    if isinstance(value, bytes):
        return value.hex()
    return "none" if value is None else str(value)


def _hint(tables: Sequence[Service], offender: str) -> str | None:
    """What to type to be told more of one offender: of the first service that takes its id."""
    entity = offender.split(" ", 1)[0]
    for table in tables if "_" in entity else ():
        names = {row.name: row for row in table.operations}
        for name in EXPLAINERS:
            if name in names and _takes(names[name], entity):
                if name == EXPLAINERS[0]:
                    return f"mesh explain {table.name} {entity}"
                return f"mesh call {table.name} {name} {names[name].path_fields[0]}={entity}"
    return None


def _takes(row: Operation, entity: str) -> bool:  # type: ignore[type-arg]  # of any
    """Whether an operation tells of one thing, and this may be its id."""
    try:
        codec.convert(dict.fromkeys(row.path_fields[:1], entity), row.takes)
    except InvalidInput:
        return False
    return bool(row.path_fields)


def _one_effect(copy: Copies, _: str) -> tuple[int, Sequence[ledger.Offence], int]:
    rows, count = copy.ask(
        "SELECT entity, count(*) || ' keys of ' || route FROM request WHERE entity <> ''"
        " GROUP BY route, entity HAVING count(*) > 1",
        {},
        SHOWN_MAX,
    )
    return _number(copy, "request"), [(_text(who), _text(why)) for who, why in rows], count


def _number(copy: Copies, table: str) -> int:
    ((found,),), _ = copy.ask(f"SELECT count(*) FROM {table}", {}, 1)  # noqa: S608  our own tables
    assert isinstance(found, int)
    return found


def _chained(copy: Copies, name: str) -> tuple[int, Sequence[ledger.Offence], int]:
    wrong = ledger.chained(ledger.events(copy, ledger.OUTBOX, name))
    return _number(copy, "outbox"), *_few(wrong)


def _few(wrong: Iterator[ledger.Offence]) -> tuple[list[ledger.Offence], int]:
    shown = list(islice(wrong, SHOWN_MAX))
    return shown, len(shown) + sum(1 for _ in wrong)


def _logged(
    services: Iterable[str],
    copies: Mapping[str, Path],
    sentence: str,
    now_ms: int,
    expected: Collection[str],
) -> Check:
    """The whole log, stream by stream, beside whatever its producers still keep."""
    wrong: list[ledger.Offence] = []
    with database.opened(copies[BUS], {}) as log:
        heads = {
            _text(name): _count(head) or 0
            for name, head in log.rows("SELECT stream, head_seq FROM stream ORDER BY 1", {})
        }
        names = list(heads)
        count = _number(log, "log")
        for name in names:
            found = chain(
                ledger.chained(ledger.events(log, ledger.LOG, name)),
                ledger.ends_at_head(log, name),
            )
            wrong += [(f"{name} {who}", why) for who, why in islice(found, SHOWN_MAX + 1)]
    for name in names:
        owner, source = (name, ledger.OUTBOX) if name in services else (HOSTED, ledger.HOSTED)
        if owner in copies:
            with database.opened(copies[owner], {BUS: copies[BUS]}) as copy:
                others, _ = ledger.differs(copy, source, name, SHOWN_MAX + 1)
                before_ms = now_ms - CUT_MS
                more, _ = ledger.beyond(copy, source, name, before_ms, SHOWN_MAX + 1)
                others = [*others, *more]
            wrong += [(f"{name} {_text(who)}", _text(why)) for who, why in others]
        if name in expected and name not in services and heads[name]:
            why = f"has told {heads[name]:,} events, and its database is not there any more"
            wrong.append((name, why))
    return _check(LOGGED, BUS, sentence, count, wrong, len(wrong))


def _subscriptions(name: str, copies: Mapping[str, Path]) -> list[Question]:
    """One question for each stream that a service hears."""
    try:
        with database.opened(copies[name], {}) as copy:
            standings = ledger.standings(copy)
    except Broken as error:
        raise DatabaseBroken(
            f"the database of {name} is not one of a service: {error.detail}",
            hint="mesh restore NAME puts a backup in its place; mesh ps says whether it is taken",
        ) from error
    return [
        Question(ACCOUNTED, name, sentence, partial(_conserved, name, at, copies, sentence))
        for at in standings
        for sentence in [f"every event of {at.stream} is accounted for"]
    ]


def _conserved(name: str, at: ledger.Standing, copies: Mapping[str, Path], sentence: str) -> Check:
    beside = {BUS: copies[BUS]} if BUS in copies else {}
    found = None
    for owner, source in ((at.stream, ledger.OUTBOX), (HOSTED, ledger.HOSTED), (BUS, ledger.LOG)):
        if owner in copies and found is None:
            others = {} if owner == BUS else beside
            with database.opened(copies[owner], others) as copy:
                stream = ledger.Stream(copy, source, at.stream, logged=bool(others))
                found = ledger.conserved(stream, at)
    if found is None:
        return _check(ACCOUNTED, name, sentence, 0, (), 0, detail="nothing was published yet")
    sums, wrong = found
    return _check(ACCOUNTED, name, sentence, sums.published, wrong, len(wrong), detail=str(sums))
