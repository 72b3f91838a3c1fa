"""How a service asks and is asked, as `mesh explain` shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.commands.operations import items, members
from mesh.commands.operator import OK, Operator
from mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesh.commands.output import Part, Style
    from mesh.commands.project import Project

ASK_S = 1.0
"""It is asked on the way to other facts, and may be the one that hangs."""

_STYLES: Mapping[object, Style] = {"closed": "good", "half-open": "warn", "open": "bad"}


def told(project: Project, service: str) -> dict[str, object] | None:
    """What the service tells of it; None when it cannot be asked now, or is none of this framework."""
    operator = Operator(project)
    try:
        url = operator.services.get(service)
        answer = operator.ask(service, url, "GET", "/traffic", ASK_S) if url else None
    except MeshError:
        return None
    return dict(members(answer.body)) if answer is not None and answer.status == OK else None


def rows(found: object) -> list[tuple[str, list[Part]]]:
    """Title and text, a row for each call, one for deferred work that is held back, two for who is let in; pure."""
    if not found:
        return []
    facts = members(found)
    return [
        *(("asks", _call(members(call))) for call in items(facts.get("asks"))),
        *(
            ("asked", _peer(name, members(seen)))
            for name, seen in members(facts.get("peers")).items()
        ),
        *_later(members(facts.get("deferred"))),
        *_door(members(facts.get("admission")), members(facts.get("connections"))),
    ]


def _call(call: Mapping[str, object]) -> list[Part]:
    repeated = "retries" if call["idempotent"] else "retries with a key"
    policy = (
        f"{call['service']} {call['route']}: within {call['timeout_ms']} ms,"
        f" {call['retries_max']} {repeated}, {call['connections_max']} connections; breaker "
    )
    return [policy, (str(call["breaker"]), _STYLES.get(call["breaker"], "faint"))]


def _peer(name: str, seen: Mapping[str, object]) -> list[Part]:
    return [
        (
            f"{name}: {seen['calls']} calls, {seen['attempts']} attempts, {seen['retries']} retries,"
            f" {seen['errors']} failed, {seen['held_back']} held back"
        )
    ]


def _later(work: Mapping[str, object]) -> list[tuple[str, list[Part]]]:
    held = ", ".join(str(name) for name in items(work.get("held")))
    if not held:
        return []
    text = f"{work['running']} under way; held back until what they ask answers: "
    return [("later", [text, (held, "warn")])]


def _door(
    admission: Mapping[str, object], connections: Mapping[str, object]
) -> list[tuple[str, list[Part]]]:
    if not admission:
        return []
    return [
        (
            "lets in",
            [
                (
                    f"{admission['taken']} of {admission['places']} at work,"
                    f" {admission['waiting']} wait; {admission['admitted']} let in,"
                    f" {admission['shed']} refused"
                )
            ],
        ),
        ("clients", [f"{connections['open']} of {connections['max']} connections"]),
    ]
