"""`mesh verify`."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesh import clock, codec
from mesh.commands import cut, output
from mesh.commands.project import Project
from mesh.commands.verb import json_option, verb
from mesh.errors import AssertionFailed, Broken, Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mesh.exercise.verify import Check
    from mesh.framework.service import Service

FOLDER = "verify-"
"""Of copies, with the pid of whoever looks at them."""

UNASKED = "mend the query in the service's table; or the database is not what its code takes it for"


def _no_data() -> Conflict:
    return Conflict("there are no databases yet", hint="mesh up -d", code="no-data")


@contextlib.contextmanager
def copies(project: Project) -> Iterator[Path]:
    """A folder of our own beside the databases, gone afterwards; so are those of the dead.

    Raises: Conflict (there are no databases yet).
    """
    if not project.data.exists():
        raise _no_data()
    run = project.data / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    for old in run.glob(f"{FOLDER}*"):
        if not Path("/proc", old.name.removeprefix(FOLDER)).exists():
            shutil.rmtree(old, ignore_errors=True)
    folder = run / f"{FOLDER}{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tables(project: Project, names: Sequence[str]) -> dict[str, Service]:
    """The services' tables, imported from where the services are. Raises: InvalidInput."""
    from mesh.commands.tables import table  # noqa: PLC0415  (imports what services stand on)

    services = project.config.services
    return {
        name: table(project, name) for name in services if name in names and services[name].module
    }


def copying(sizes: Mapping[str, int], copied: Sequence[str]) -> str:
    """How far the copying is; `sizes` in bytes, of everything that is copied."""
    whole, there = sum(sizes.values()), sum(sizes.get(name, 0) for name in copied)
    left = [name for name in sizes if name not in copied]
    under_way = f"   {', '.join(left)}" if left else ""
    return f"copying at one cut: {there / 2**20:.1f} of {whole / 2**20:.1f} MiB{under_way}"


def judged(project: Project, folder: Path, progress: output.Live) -> list[Check]:
    """Take the copies into a folder and ask every question of them.

    Raises: Conflict (there are no databases yet), Unavailable, InvalidInput, DatabaseBroken.
    """
    from mesh.exercise import verify  # noqa: PLC0415  (heavy)

    sizes, copied = cut.sizes(project), list[str]()

    def done(name: str, _: int) -> None:
        copied.append(name)
        progress.show([copying(sizes, copied)])

    with cut.alone(project, progress):
        progress.show([copying(sizes, copied)])
        taken_ms, names = cut.take(project, folder, with_log=True, done=done)
    if not names:
        raise _no_data()
    there = {path.stem: path for path in folder.glob("*.db")}
    services = project.config.services
    expected = {name for name, each in services.items() if each.module}
    asked = verify.questions(tables(project, names), there, taken_ms, expected)
    found = []
    for n, question in enumerate(asked, 1):
        progress.show([f"{n} of {len(asked)}  {question.service}: {question.sentence}"])
        try:
            found.append(question.ask())
        except Broken as error:
            raise Broken(
                f"`{question.name}` cannot be asked of {question.service}: {error.detail}",
                code="promise-not-asked",
                evidence=error.evidence,
                hint=UNASKED,
            ) from error
    progress.clear()
    return found


def show(found: Sequence[Check]) -> None:
    """A line for each check by service, its offenders below it; with names where all have room."""
    named = all(output.fits(*_line(check, named=True)) for check in found)
    for service in dict.fromkeys(check.service for check in found):
        output.out((service, "strong"))
        for check in found:
            if check.service == service:
                _show(check, named=named)


def _line(check: Check, *, named: bool) -> list[output.Part]:
    counted = check.detail or ("" if check.checked is None else f"{check.checked:,} checked")
    return [
        "  ",
        ("✓ ok     ", "good") if check.ok else ("✗ wrong  ", "bad"),
        check.sentence.removesuffix("."),
        (f"  {counted}" if counted else "", "faint"),
        (f"  {check.name}" if named else "", "faint"),
    ]


def _show(check: Check, *, named: bool) -> None:
    output.row(*_line(check, named=named or not check.ok))
    indent = " " * 11
    for each in check.violations:
        output.row(indent, (each.id, "strong"), f"  {each.detail}" if each.detail else "")
    if check.more:
        output.out(indent, (f"and {check.more:,} more", "faint"))
    hint = next((each.hint for each in check.violations if each.hint), None)
    if hint:
        output.out(indent, ("hint:", "cyan"), f" {hint}")


def failure(found: Sequence[Check]) -> AssertionFailed | None:
    """What to end with when a promise does not hold: who broke which."""
    wrong = [check for check in found if not check.ok]
    if not wrong:
        return None
    hints = [each.hint for check in wrong for each in check.violations if each.hint]
    named = [
        f"{check.name} {check.service}: {check.violations[0].id}"
        + (f" and {more} more" if (more := len(check.violations) - 1 + check.more) else "")
        for check in wrong
        if check.violations
    ]
    return AssertionFailed(
        f"{len(wrong)} of {len(found)} promises {'does' if len(wrong) == 1 else 'do'} not hold",
        code="invariant-broken",
        evidence=tuple(named),
        hint=hints[0] if hints else "keep the files as they are: mesh backup evidence",
    )


def summary(found: Sequence[Check], took_s: float) -> dict[str, object]:
    """What `--json` prints."""
    return {
        "schema": "mesh.verify/1",
        "ok": all(check.ok for check in found),
        "took_s": round(took_s, 3),
        "checks": codec.plain(list(found)),
    }


@verb("mesh verify", "mesh verify --json")
@json_option
@click.pass_context
def command(ctx: click.Context, *, as_json: bool) -> None:
    """Check every promise over all databases and the event log, at one moment.

    The mesh serves on meanwhile: copies are looked at, which are gone afterwards. What breaks a
    promise is named, with the command that tells more of it, and the exit code is 7.
    """
    project = Project.of(ctx)
    begun_s = clock.monotonic_s()
    with output.Live() as progress, copies(project) as folder:
        found = judged(project, folder, progress)
    took_s = clock.monotonic_s() - begun_s
    if as_json:
        output.json_line(summary(found, took_s))
    else:
        show(found)
    error = failure(found)
    if error is not None:
        raise error
    if not as_json:
        output.note((f"{len(found)} promises hold", "good"), f", looked at in {took_s:.1f} s")
