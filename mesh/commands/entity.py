"""What a service tells of one of its entities, for a person; pure but for what it prints.

It knows no service: single facts become lines, lists of objects tables, and whatever is empty is
left out. Any program that serves an operation `explain` is shown alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.commands import output
from mesh.commands.operations import items, members

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mesh.commands.output import Part, Style

HEADLINE = ("id", "status", "reason")
"""The members that make the first line."""

WAITS = "waits_for"
"""The member that says something also when it is null: that nothing is waited for."""

LABEL_CELLS = 12
ROWS_MAX = 50
"""Rows of one table; an entity's service bounds them itself, another's may not."""

GOOD = frozenset({"active", "captured", "committed", "delivered", "paid", "shipped", "succeeded"})
BAD = frozenset({"cancelled", "closed", "declined", "expired", "rejected", "suspended"})


def show(told: Mapping[str, object]) -> None:
    """Print one explanation."""
    _headline(told)
    for name, value in told.items():
        if name not in HEADLINE and not _is_table(value):
            for line in _facts(name, value):
                output.out(*line)
    for name, value in told.items():
        if _is_table(value):
            _table(name, items(value))


def _headline(told: Mapping[str, object]) -> None:
    line: list[Part] = [(str(told.get("id", "it")), "strong")]
    if told.get("status"):
        line += [" is ", _state(str(told["status"]))]
    if told.get("reason"):
        line.append(f": {told['reason']}")
    output.out(*line)


def _state(text: str) -> Part:
    style: Style = "good" if text in GOOD else "bad" if text in BAD else "warn"
    return (text, style)


def _line(label: str, *parts: Part) -> list[Part]:
    return [(f"  {label:<{LABEL_CELLS}}", "faint"), *parts]


def _is_table(value: object) -> bool:
    return isinstance(value, list) and any(isinstance(row, dict) for row in value)


def _facts(name: str, value: object) -> Iterator[list[Part]]:
    """The lines of a member that is no table; none when there is nothing to tell."""
    label = name.replace("_", " ")
    if isinstance(value, dict):
        told = [
            f"{key.replace('_', ' ')} {_text(one)}"
            for key, one in value.items()
            if one is not None and key != "state"
        ]
        state = [_state(str(value["state"]))] if value.get("state") else []
        yield _line(label, *state, f"{', ' if state and told else ''}{', '.join(told)}")
    elif isinstance(value, list):
        if value:
            yield _line(label, ", ".join(_text(one) for one in value))
    elif value is not None or name == WAITS:
        yield _line(label, "nothing" if value is None else _text(value))


def _text(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value) or "-"
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(one)}" for key, one in value.items())
    return str(value)


def _table(name: str, found: list[object]) -> None:
    """One list of objects: a column for each member that any of them fills."""
    rows = [members(row) for row in found[:ROWS_MAX]]
    heads = [
        key
        for key in dict.fromkeys(key for row in rows for key in row)
        if any(row.get(key) not in (None, "", [], False) for row in rows)
    ]
    output.out("")
    output.out((name.replace("_", " "), "strong"))
    output.table(
        [
            f"  {head.replace('_', ' ').upper()}" if not n else head.replace("_", " ").upper()
            for n, head in enumerate(heads)
        ],
        [
            [
                f"  {_text(row.get(head))}" if not n else _text(row.get(head))
                for n, head in enumerate(heads)
            ]
            for row in rows
        ],
    )
    if len(found) > ROWS_MAX:
        output.out((f"  and {len(found) - ROWS_MAX} more", "faint"))
