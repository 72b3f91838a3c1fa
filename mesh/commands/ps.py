"""`mesh ps`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from mesh.commands import output
from mesh.commands.project import Project
from mesh.commands.verb import json_option, verb
from mesh.errors import NotRunning
from mesh.text import age

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mesh.commands.output import Part, Style

NOTHING_RUNS = 3

FINISHED = "exit 0"
"""The cause by which a stopped program is one that has done its work."""

STYLES: dict[object, Style] = {
    "ready": "good",
    "degraded": "warn",
    "backoff": "warn",
    "starting": "cyan",
    "stopping": "cyan",
    "failed": "bad",
    "stopped": "faint",
}

Row = dict[str, object]

_UNTOLD: tuple[object, ...] = (None, [])

KEYS = (
    *("name", "state", "pid", "port", "url", "uptime_s", "restarts", "cpu_percent", "rss_bytes"),
    *("requests_per_s", "p50_ms", "p99_ms", "error_percent", "lag", "sandbox"),
    *("history", "asks", "hears", "tells", "dropped", "cause", "faults"),
)
"""The members of a row of `mesh ps --json`, as the supervisor gives them."""


def nothing(project: str, names: Sequence[str]) -> dict[str, object]:
    """The status of a mesh that does not run."""
    blank: Row = dict.fromkeys(KEYS)
    return {
        "schema": "mesh.ps/1",
        "project": project,
        "supervisor": None,
        "services": [{**blank, "name": name, "state": "stopped", "restarts": 0} for name in names],
    }


def _plain(value: object) -> str:
    return "-" if value is None else str(value)


def _mib(value: object) -> str:
    return f"{value / 2**20:.0f}M" if isinstance(value, int | float) else "-"


def _rounded(suffix: str = "") -> Callable[[object], str]:
    return lambda value: f"{value:.1f}{suffix}" if isinstance(value, int | float) else "-"


def _faults(value: object) -> str:
    """`latency 12s`: what is broken on purpose, and for how long still."""
    rows = value if isinstance(value, list) else []
    return ", ".join(f"{row['kind']} {age(row['left_s'])}" for row in rows) or "-"


_COLUMNS: tuple[tuple[str, str, Callable[[object], str]], ...] = (
    ("PID", "pid", _plain),
    ("PORT", "port", _plain),
    ("UPTIME", "uptime_s", age),
    ("RESTARTS", "restarts", _plain),
    ("CPU", "cpu_percent", _rounded("%")),
    ("MEMORY", "rss_bytes", _mib),
    ("REQ/S", "requests_per_s", _rounded()),
    ("P50", "p50_ms", _rounded("ms")),
    ("P99", "p99_ms", _rounded("ms")),
    ("ERRORS", "error_percent", _rounded("%")),
    ("LAG", "lag", _plain),
    ("SANDBOX", "sandbox", _plain),
    ("FAULTS", "faults", _faults),
)


def _why(row: Row) -> str:
    """The cause, where the state does not speak for itself."""
    return "" if row.get("state") == "ready" else _plain(row.get("cause") or None)


def show(rows: Sequence[Row]) -> None:
    """The table. A column of which nobody knows anything is left out."""
    columns = [
        column for column in _COLUMNS if any(row.get(column[1]) not in _UNTOLD for row in rows)
    ]
    with_why = any(_why(row) not in {"", "-"} for row in rows)
    table: list[list[Part]] = []
    for row in rows:
        state = _plain(row.get("state"))
        line: list[Part] = [_plain(row.get("name")), (state, STYLES.get(state, "faint"))]
        line += [form(row.get(key)) for _, key, form in columns]
        table.append([*line, _why(row)] if with_why else line)
    head = ["NAME", "STATE", *(title for title, _, _ in columns), *(["WHY"] if with_why else [])]
    output.table(head, table)


def _status(project: Project) -> Mapping[str, object]:
    try:
        return project.remote().status()
    except NotRunning:
        return nothing(project.config.name, project.programs)


@verb("mesh ps", "mesh ps --json", "mesh ps -q | xargs -n1 mesh restart")
@click.option("-a", "--all", "everything", is_flag=True, help="Show finished one-shots too.")
@click.option("-q", "--quiet", is_flag=True, help="Print only names.")
@json_option
@click.pass_context
def command(ctx: click.Context, *, everything: bool, quiet: bool, as_json: bool) -> int:
    """Show the state of every program.

    With nothing running all are stopped, and the exit code is 3.
    """
    status = dict(_status(Project.of(ctx)))
    found = status["services"]
    assert isinstance(found, list)
    rows: list[Row] = [
        row
        for row in found
        if everything or (row.get("state"), row.get("cause")) != ("stopped", FINISHED)
    ]
    if as_json:
        output.json_line({**status, "services": rows})
    elif quiet:
        for row in rows:
            output.out(_plain(row.get("name")))
    else:
        show(rows)
    if status["supervisor"] is not None:
        return 0
    output.note("nothing runs here")
    output.note(("hint:", "cyan"), " mesh up -d")
    return NOTHING_RUNS
