"""`mesh chaos`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesh import clock
from mesh.commands import http, output
from mesh.commands.project import Project
from mesh.commands.verb import Number, Seconds, VerbGroup, Whole, json_option, verb
from mesh.configs.check import BUS
from mesh.errors import MeshError, ServiceUnavailable, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

FOR_S = 30.0
FOR_S_MAX = 3600.0
"""Everything mends itself; this is how long it takes, by default and at most."""

KILLS_PER_S = 0.2
KILLS_PER_S_MAX = 10.0
DELAY_MS = 500
DELAY_MS_MAX = 60_000

ASK_S = 2.0
"""For one program to take a fault; one that is slower is broken enough."""

INSIDE = ("latency", "error", "drop", "dup", "reorder")
"""Done by the program itself, until a deadline of its own."""

NO_CONTENT = 204
NOT_FOUND = 404


def _ask(project: Project, target: str, method: str, body: object = None) -> None:
    """Have a program begin or end what happens inside it.

    Raises: NotRunning, ServiceUnavailable, DeadlineExceeded; WrongUsage when it has no such door.
    """
    running = project.running()
    url = running.urls.get(target)
    if url is None:
        raise WrongUsage(
            f"{target} serves no port, so nothing inside it can be broken",
            hint=f"mesh chaos kill {target}",
        )
    token = project.remote().token("operator", target)
    answer = http.ask(
        url,
        method,
        "/faults",
        body=body,
        headers={"Authorization": f"Bearer {token}"},
        timeout_s=ASK_S,
    )
    if answer.status == NOT_FOUND:
        raise WrongUsage(
            f"{target} is no program of ours inside, so it can only be killed or paused",
            hint=f"mesh chaos pause {target}",
        )
    if answer.status != NO_CONTENT:
        raise ServiceUnavailable(f"{target} answered {answer.status}: {answer.body}")


def inflict(project: Project, fault: Mapping[str, object]) -> None:
    """Break it; what happens inside the program is asked of the program.

    Raises: WrongUsage (it has no such door), NotFound, Conflict, NotRunning, ServiceUnavailable.
    """
    target, kind = str(fault["target"]), str(fault["kind"])
    remote = project.remote()
    if target == BUS and kind in {"latency", "error"}:
        raise WrongUsage(
            "the bus answers no requests that could be late or fail",
            hint="mesh chaos drop bus, dup bus, reorder bus, pause bus or kill bus",
        )
    remote.inflict(fault)
    if kind in INSIDE:
        asked = {name: value for name, value in fault.items() if name != "target"}
        try:
            _ask(project, target, "POST", asked)
        except MeshError:
            remote.mend([target])
            raise


def mend(project: Project, targets: Sequence[str]) -> tuple[int, list[str]]:
    """End faults now, of all when nobody is named; how many, and who mends itself only later."""
    ended = project.remote().mend(targets)
    later = []
    for name in sorted({str(row["target"]) for row in ended if row["kind"] in INSIDE}):
        try:
            _ask(project, name, "DELETE")
        except MeshError as error:
            later.append(f"{name} mends itself at its deadline: {error}")
    return len(ended), later


def _inflict(ctx: click.Context, fault: dict[str, object], seed: int | None) -> None:
    """Break it, and say until when."""
    project = Project.of(ctx)
    target, kind = str(fault["target"]), str(fault["kind"])
    project.check_services([target])
    fault["seed"] = clock.new_seed() if seed is None else seed
    inflict(project, fault)
    until = f" for {fault['for_s']:g} s" if fault["for_s"] else ""
    output.note(f"{kind} {target}{until}   seed {fault['seed']}   end it: mesh chaos clear")


_target = click.argument("target", metavar="TARGET")
_seed = click.option(
    "--seed", type=Whole(0), metavar="N", help="Draw the same again; else one is chosen."
)


def _for(default: float, sentence: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--for",
        "for_s",
        type=Seconds(0.1, FOR_S_MAX),
        default=default or None,
        metavar="S",
        help=sentence,
    )


def _share(what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        "--rate",
        type=Number(0, 1),
        default=1.0,
        metavar="P",
        help=f"The share of {what} that is hit, 0 to 1 (1).",
    )


_for_a_while = _for(FOR_S, f"Until this many seconds have passed ({FOR_S:g}).")


@click.group("chaos", cls=VerbGroup)
def command() -> None:
    """Break something on purpose, for a while.

    Every fault ends by itself, also when this command or its terminal is gone, and with `mesh
    down`. Targets are the project's own programs: its services, and `bus`.
    """


@verb(
    "mesh chaos kill order",
    "mesh chaos kill order --for 30 --rate 0.2 --seed 7",
    name="kill",
)
@_target
@_for(0.0, "Kill again and again for this many seconds; else once.")
@click.option(
    "--rate",
    type=Number(0.01, KILLS_PER_S_MAX),
    default=KILLS_PER_S,
    metavar="P",
    help=f"Kills a second, on average ({KILLS_PER_S:g}).",
)
@_seed
@click.pass_context
def _kill(
    ctx: click.Context, *, target: str, for_s: float | None, rate: float, seed: int | None
) -> None:
    """SIGKILL a program, as an accident would.

    Unlike after `mesh kill` it counts as a crash: a program that is killed often enough backs off
    and fails.
    """
    _inflict(ctx, {"kind": "kill", "target": target, "for_s": for_s or 0.0, "rate": rate}, seed)


@verb("mesh chaos pause order", "mesh chaos pause bus --for 3", name="pause")
@_target
@_for_a_while
@_seed
@click.pass_context
def _pause(ctx: click.Context, *, target: str, for_s: float, seed: int | None) -> None:
    """SIGSTOP a program, SIGCONT it later.

    One that is paused for longer than the watchdog waits is replaced by the supervisor.
    """
    _inflict(ctx, {"kind": "pause", "target": target, "for_s": for_s}, seed)


@verb(
    "mesh chaos latency product",
    "mesh chaos latency product --ms 200 --rate 0.3 --for 60 --seed 7",
    name="latency",
)
@_target
@click.option(
    "--ms",
    type=Whole(1, DELAY_MS_MAX),
    default=DELAY_MS,
    metavar="N",
    help=f"The delay in milliseconds ({DELAY_MS}).",
)
@_for_a_while
@_share("requests")
@_seed
@click.pass_context
def _latency(
    ctx: click.Context, *, target: str, ms: int, for_s: float, rate: float, seed: int | None
) -> None:
    """Let a service answer late; its health pages are spared."""
    fault = {"kind": "latency", "target": target, "for_s": for_s, "rate": rate, "ms": ms}
    _inflict(ctx, fault, seed)


@verb(
    "mesh chaos error product",
    "mesh chaos error product --rate 0.2 --for 60 --seed 7",
    name="error",
)
@_target
@_for_a_while
@_share("requests")
@_seed
@click.pass_context
def _error(ctx: click.Context, *, target: str, for_s: float, rate: float, seed: int | None) -> None:
    """Let a service refuse requests with 503, code `fault-injected`."""
    _inflict(ctx, {"kind": "error", "target": target, "for_s": for_s, "rate": rate}, seed)


@verb("mesh chaos drop order", "mesh chaos drop bus --rate 0.3 --for 60 --seed 7", name="drop")
@_target
@_for_a_while
@_share("messages")
@_seed
@click.pass_context
def _drop(ctx: click.Context, *, target: str, for_s: float, rate: float, seed: int | None) -> None:
    """Lose messages of the event feed, on their way to a service or all that the bus sends.

    No event is lost by it: what a consumer has missed it fetches.
    """
    _inflict(ctx, {"kind": "drop", "target": target, "for_s": for_s, "rate": rate}, seed)


@verb("mesh chaos dup order", "mesh chaos dup bus --rate 0.3 --for 60 --seed 7", name="dup")
@_target
@_for_a_while
@_share("messages")
@_seed
@click.pass_context
def _dup(ctx: click.Context, *, target: str, for_s: float, rate: float, seed: int | None) -> None:
    """Bring messages of the event feed twice, and hand a service events again.

    No event is applied twice by it: each extends the consumer's cursor, or is passed over.
    """
    _inflict(ctx, {"kind": "dup", "target": target, "for_s": for_s, "rate": rate}, seed)


@verb(
    "mesh chaos reorder order",
    "mesh chaos reorder bus --rate 0.3 --for 60 --seed 7",
    name="reorder",
)
@_target
@_for_a_while
@_share("messages")
@_seed
@click.pass_context
def _reorder(
    ctx: click.Context, *, target: str, for_s: float, rate: float, seed: int | None
) -> None:
    """Let messages of the event feed overtake one another, and events handed to a service.

    Events are applied in their order all the same: what leaves a gap is fetched.
    """
    _inflict(ctx, {"kind": "reorder", "target": target, "for_s": for_s, "rate": rate}, seed)


def _faults(project: Project) -> list[Mapping[str, object]]:
    found: list[Mapping[str, object]] = []
    for row in project.remote().status()["services"]:
        faults = row.get("faults")
        found += faults if isinstance(faults, list) else []
    return found


@verb("mesh chaos ls", "mesh chaos ls --json", name="ls")
@json_option
@click.pass_context
def _ls(ctx: click.Context, *, as_json: bool) -> None:
    """Show what is broken on purpose, and for how long still."""
    found = _faults(Project.of(ctx))
    if as_json:
        output.json_line({"schema": "mesh.chaos/1", "faults": found})
    elif found:
        names = ("kind", "target", "left_s", "rate", "seed", "ms")
        output.table(
            [name.upper() for name in names], [[str(row[name]) for name in names] for row in found]
        )
    else:
        output.note("nothing is broken on purpose")


@verb("mesh chaos clear", "mesh chaos clear order", name="clear")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@click.pass_context
def _clear(ctx: click.Context, *, targets: tuple[str, ...]) -> None:
    """End faults now: of these programs, else all."""
    project = Project.of(ctx)
    project.check_services(targets)
    ended, later = mend(project, targets)
    for text in later:
        output.note(("warning:", "warn"), f" {text}")
    count = f"{ended} fault{'' if ended == 1 else 's'}"
    output.note(f"ended {count}" if ended else "nothing was broken on purpose")


for _member in (_kill, _pause, _latency, _error, _drop, _dup, _reorder, _ls, _clear):
    command.add_command(_member)
