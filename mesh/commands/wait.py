"""`mesh wait`."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import sleep
from typing import TYPE_CHECKING, Literal

import click

from mesh import clock
from mesh.commands import http, output
from mesh.commands.idle import Reading
from mesh.commands.operator import NOT_FOUND, OK, READING_S, Operator
from mesh.commands.project import Project
from mesh.commands.ps import FINISHED
from mesh.commands.verb import Seconds, json_option, services_argument, verb
from mesh.errors import (
    DeadlineExceeded,
    MeshError,
    NotRunning,
    ProgramFailed,
    ServiceUnavailable,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

POLL_S = 0.05
TIMEOUT_S = 60.0
"""Default: far longer than any start or stop here takes, far shorter than a forgotten terminal."""

UP = ("ready", "degraded")
ON_THE_WAY = ("starting", "backoff", "stopping")
"""States that do not last: what has one may not even listen yet, but is not at rest."""


@dataclass
class Finding:
    """What one look found: `reached`, or `missing` in words; `detail` for programs.

    `hopeless` is why there is no use in waiting any longer.
    """

    reached: bool
    detail: dict[str, object] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    hopeless: MeshError | None = None


def _rows(project: Project, names: Sequence[str]) -> list[dict[str, object]]:
    return [
        row for row in project.remote().status()["services"] if not names or row["name"] in names
    ]


def ready(project: Project, names: Sequence[str]) -> Finding:
    """Whether these programs are up or done; all that were wanted when none is named."""
    rows = _rows(project, names)
    wanted = [row for row in rows if names or row["cause"] != "not started"]
    states = {str(row["name"]): row["state"] for row in wanted}
    missing = [
        f"{row['name']} is {row['state']}"
        for row in wanted
        if row["state"] not in UP and (row["state"], row["cause"]) != ("stopped", FINISHED)
    ]
    found = Finding(not missing, {"states": states}, missing)
    failed = [row for row in wanted if row["state"] == "failed"]
    if failed:
        name, cause = failed[0]["name"], failed[0]["cause"]
        found.hopeless = ProgramFailed(
            f"{name} has failed: {cause}", hint=f"mesh logs {name} -n 20"
        )
    return found


def _down(project: Project, names: Sequence[str]) -> Finding:
    try:
        rows = _rows(project, names)
    except NotRunning:
        return Finding(reached=True, detail={"states": dict.fromkeys(names, "stopped")})
    states = {str(row["name"]): row["state"] for row in rows}
    still = [f"{name} is {state}" for name, state in states.items() if state != "stopped"]
    if not names:
        still.append("the supervisor runs")
    return Finding(not still, {"states": states}, still)


class Idle:
    """Looks at all counters, and remembers the reading before."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._operator = Operator(project)
        self._before: Reading | None = None

    def __call__(self) -> Finding:
        """One look; at rest are two that find the same."""
        reading = self._read()
        missing = reading.busy()
        if not missing and reading != self._before:
            missing = ["something has happened since the last look"]
        self._before = reading
        detail: dict[str, object] = {
            "services": reading.counters,
            "parked": reading.parked,
            "skipped": reading.skipped,
            "unjudged_streams": reading.unjudged,
        }
        return Finding(not missing, detail, missing)

    def _read(self) -> Reading:
        rows = _rows(self._project, ())
        moving = {str(row["name"]): row["state"] for row in rows if row["state"] in ON_THE_WAY}
        reading = Reading({}, missing={name: f"is {state}" for name, state in moving.items()})
        for name, url in self._project.running().urls.items():
            if name in moving:
                continue
            try:
                answer = self._operator.ask(name, url, "GET", "/counters", READING_S)
            except http.ConnectionRefused:
                reading.skipped[name] = "does not run"
            except (ServiceUnavailable, DeadlineExceeded):
                reading.missing[name] = "does not answer"
            else:
                self._sort(reading, name, answer)
        return reading

    @staticmethod
    def _sort(reading: Reading, name: str, answer: http.Answer) -> None:
        if answer.status == NOT_FOUND:
            reading.skipped[name] = "serves no counters"
        elif answer.status == OK and isinstance(answer.body, dict):
            reading.counters[name] = answer.body
        else:
            reading.missing[name] = f"answers {answer.status}"


def until(look: Callable[[], Finding], timeout_s: float) -> tuple[Finding, float]:
    """Look again and again until it is reached or time is up; the last finding, and the time."""
    begun_s = clock.monotonic_s()
    while True:
        finding = look()
        passed_s = clock.monotonic_s() - begun_s
        if finding.reached or finding.hopeless or passed_s >= timeout_s:
            return finding, passed_s
        sleep(min(POLL_S, timeout_s - passed_s))


@verb(
    "mesh wait",
    "mesh wait order --timeout 5",
    "mesh wait --for idle --json",
    "mesh wait --for down",
)
@services_argument
@click.option(
    "--for",
    "target",
    type=click.Choice(["ready", "down", "idle"]),
    default="ready",
    help="What to wait for.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=Seconds(0, 24 * 3600),
    default=TIMEOUT_S,
    metavar="S",
    help="Give up after S seconds (60), with exit code 4.",
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    services: tuple[str, ...],
    target: Literal["ready", "down", "idle"],
    timeout_s: float,
    as_json: bool,
) -> None:
    """Wait until services are ready, down or idle.

    Idle is the rest of the whole mesh: nothing in flight, every event told and applied, no
    deferred action left but those with a date. Parked events are listed.
    """
    project = Project.of(ctx)
    project.check_services(services)
    looks: dict[str, Callable[[], Finding]] = {
        "ready": lambda: ready(project, services),
        "down": lambda: _down(project, services),
        "idle": Idle(project),
    }
    finding, passed_s = until(looks[target], timeout_s)
    if as_json:
        output.json_line(
            {
                "schema": "mesh.wait/1",
                "reached": finding.reached,
                "waited_ms": round(passed_s * clock.MS_PER_S),
                "detail": {"for": target, "missing": finding.missing, **finding.detail},
            }
        )
    if finding.hopeless is not None:
        raise finding.hopeless
    if not finding.reached:
        raise DeadlineExceeded(
            f"not {target} within {timeout_s:g} s", evidence=tuple(finding.missing)
        )
    output.note(f"{target} after {passed_s:.1f} s")
    parked = finding.detail.get("parked")
    for name, count in parked.items() if isinstance(parked, dict) else ():
        output.note(("warning:", "warn"), f" {name} has parked {count} events")
