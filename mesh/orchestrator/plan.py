"""What belongs together and in which order. Pure: graphs and words, nothing is started here.

Two kinds of edges: what a program *needs* (`depends_on`) gates its first start and may not run
in circles; whom it *asks* (`calls`) only says who should be stopped later, and may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import ConfigInvalid
from mesh.orchestrator.contract import UP
from mesh.orchestrator.life import Gate

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from mesh.config import Dependency
    from mesh.orchestrator.contract import Program
    from mesh.orchestrator.life import Life

_FOREIGN = ("NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "MESH_NOTIFY_FD")
"""Variables addressed to the supervisor itself by whoever started it; no program's business."""

HOST = "127.0.0.1"

SUPERVISOR = "mesh"
"""Its log lies beside the programs', so no program can have this name."""


def closure(edges: Mapping[str, Iterable[str]], names: Iterable[str]) -> list[str]:
    """`names` and everything they lead to, in the order of `edges`; unknown ends are left out."""
    found: set[str] = set()
    ahead = [name for name in names if name in edges]
    while ahead:
        name = ahead.pop()
        if name not in found:
            found.add(name)
            ahead += (end for end in edges[name] if end in edges)
    return [name for name in edges if name in found]


def cycle(edges: Mapping[str, Iterable[str]]) -> list[str]:
    """One way that leads back to its beginning (`a, b, a`), or nothing."""
    left = set(edges)
    while ended := {name for name in left if left.isdisjoint(edges[name])}:
        left -= ended
    if not left:
        return []
    path = [min(left)]
    while path[-1] not in path[:-1]:
        path.append(min(left.intersection(edges[path[-1]])))
    return path[path.index(path[-1]) :]


def levels(
    needs: Mapping[str, Collection[str]], asks: Mapping[str, Collection[str]]
) -> list[list[str]]:
    """Names in levels: each needs only what lies in earlier ones, and asks them where it can.

    Started in this order and stopped in the reverse, a whole level at a time. `needs` has no
    cycle; where `asks` has one, those in it share a level.
    """
    left = list(needs)
    found: list[list[str]] = []
    while left:
        able = [name for name in left if not _any(left, needs[name])]
        level = [name for name in able if not _any(left, asks.get(name, ()))] or able
        if not level:
            raise ConfigInvalid((complaint(cycle(needs)),))
        found.append(level)
        left = [name for name in left if name not in level]
    return found


def _any(left: Sequence[str], ends: Collection[str]) -> bool:
    return any(end in left for end in ends)


def complaint(path: Sequence[str]) -> str:
    """A cycle in words."""
    return f"depends_on runs in a circle: {' → '.join(path)}"


def check(programs: Sequence[Program]) -> None:
    """Refuse what could never run.

    Raises: ConfigInvalid with every complaint.
    """
    complaints = []
    names = [program.name for program in programs]
    complaints += [f"{name}: defined twice" for name in names if names.count(name) > 1]
    if SUPERVISOR in names:
        complaints.append(f"{SUPERVISOR}: is the name of the supervisor's own log")
    complaints += [
        f"{program.name}: needs exactly one of entry and command"
        for program in programs
        if (program.entry is None) == (program.command is None)
    ]
    if path := cycle({program.name: program.depends_on for program in programs}):
        complaints.append(complaint(path))
    if complaints:
        raise ConfigInvalid(tuple(dict.fromkeys(complaints)))


def gate(program: Program, lives: Mapping[str, Life]) -> Gate:
    """Whether what `program` depends on lets it start.

    Only what is meant to run is waited for: a dependency that is not here, was not asked for, or
    ended well holds nobody up.
    """
    waits = []
    for name, dependency in unmet(program, lives).items():
        if lives[name].state != "failed":
            waits.append(f"{name} ({dependency.condition})")
        elif dependency.required:
            return Gate("blocked", f"{name} failed")
    return Gate("wait", f"waits for {', '.join(waits)}") if waits else Gate("open")


def unmet(program: Program, lives: Mapping[str, Life]) -> dict[str, Dependency]:
    """What `program` depends on, is meant to run and does not fulfil its condition now."""
    return {
        name: dependency
        for name, dependency in program.depends_on.items()
        if (life := lives.get(name)) is not None
        if life.desired == "up" and not _holds(dependency, life)
    }


def _holds(dependency: Dependency, life: Life) -> bool:
    match dependency.condition:
        case "service_started":
            return life.alive
        case "service_healthy":
            return life.state in UP
        case "service_completed_successfully":
            return False


def environment(
    program: Program, base: Mapping[str, str], urls: Mapping[str, str], port: int | None
) -> dict[str, str]:
    """Everything `program` finds in its environment, but what only its own process can know.

    Args:
        base: the supervisor's own.
        urls: of every program that has a port.
    """
    variables = {name: value for name, value in base.items() if name not in _FOREIGN}
    variables |= program.environment
    variables["MESH_SERVICE"] = program.name
    variables["HOST"] = HOST
    if port is not None:
        variables["PORT"] = str(port)
    for peer in program.peers:
        name = f"MESH_URL_{peer.upper().replace('-', '_')}"
        if peer in urls and name not in program.environment:  # a proxy may stand before a peer
            variables[name] = urls[peer]
    for variable, place in program.addresses.items():
        name, _, path = place.partition("/")
        if name in urls:
            variables[variable] = f"{urls[name]}/{path}"
    return variables
