"""`mesh backup`."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mesh import clock, codec, database, snapshot
from mesh.commands import archive, http, output
from mesh.commands.operations import members
from mesh.commands.project import Project
from mesh.commands.verb import json_option, verb
from mesh.configs.check import BUS
from mesh.errors import Conflict, NotRunning, ServiceUnavailable, Unavailable
from mesh.orchestrator import state

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

STEP_S = 2.0
"""For one owner to let its writer stand, or to fix its moment."""

COPY_S = snapshot.COPY_S + STEP_S

CUTS_MAX = 50
"""Attempts at one cut: a writer stands 50 ms, and all must stand together."""

UP = ("ready", "degraded")
AT_REST = ("stopped", "failed")
OK = (200, 204)
NOT_NOW = (409, 503)
"""Answers of an owner whose writer stood too long, or could not stand yet."""

LOG_LEFT_OUT = "a replica: it is rebuilt from the outboxes"


@dataclass(frozen=True, slots=True)
class Owner:
    """A program that has its database open: where it is asked, with what."""

    name: str
    url: str
    token: str

    def ask(self, step: str, timeout_s: float = STEP_S) -> dict[str, object]:
        """Have it do one step of the cut. Raises: Conflict when it stood too long, Unavailable."""
        answer = http.ask(
            self.url,
            "POST",
            f"/backup/{step}",
            headers={"Authorization": f"Bearer {self.token}"},
            timeout_s=timeout_s,
        )
        said = members(answer.body)
        if answer.status in NOT_NOW and step != "copy":
            raise Conflict(str(said.get("detail")), code=str(said.get("code")))
        if answer.status not in OK:
            why = said.get("detail") or f"status {answer.status}"
            raise ServiceUnavailable(f"{self.name} cannot be backed up: {why}")
        return said


def files(project: Project) -> dict[str, Path]:
    """Every database of ours that a mesh like this has, by the name it has in a backup."""
    found: dict[str, Path] = {}
    for name, service in project.config.services.items():
        if service.module:
            file = database.file_of(service.database, project.data / name, name)
            if file is not None:
                found[name] = file
    if project.config.bus:
        found[archive.HOSTED] = project.data / BUS / "hosted.db"
    return found


def _left_out(project: Project) -> dict[str, str]:
    others = {
        name: "a program with files of its own"
        for name, service in project.config.services.items()
        if not service.module
    }
    return {**others, "bus.db": LOG_LEFT_OUT} if project.config.bus else others


def _cut(owners: Sequence[Owner], pool: ThreadPoolExecutor) -> None:
    """Let every writer stand together, and every owner fix that moment.

    Raises: Unavailable after CUTS_MAX attempts; what an owner answers.
    """
    for _ in range(CUTS_MAX):
        with contextlib.suppress(Conflict):
            list(pool.map(lambda owner: owner.ask("hold"), owners))
            list(pool.map(lambda owner: owner.ask("take"), owners))
            return
    raise Unavailable(
        f"the writers did not stand together in {CUTS_MAX} attempts: this machine is too busy",
        hint="try again",
    )


def _owners(project: Project, known: dict[str, Path]) -> tuple[list[Owner], list[str]]:
    """Who has a database open, and which of them lie at rest.

    Raises: Unavailable when a program is neither up nor at rest.
    """
    remote, urls = project.remote(), project.running().urls
    owners, resting = [], []
    rows = {str(row["name"]): row for row in remote.status()["services"]}
    for name in known:
        program = BUS if name == archive.HOSTED else name
        was = rows[program]["state"]
        if was in UP:
            owners.append(Owner(name, urls[program], remote.token("operator", program)))
        elif was in AT_REST:
            resting.append(name)
        else:
            raise Unavailable(f"{program} is {was}", hint=f"mesh wait {program}, then again")
    return owners, resting


def _copied(
    owners: Sequence[Owner],
    folder: Path,
    pool: ThreadPoolExecutor,
    done: Callable[[str, int], None],
) -> None:
    """Have every owner copy its moment, and take the copies into the folder."""
    copies = {pool.submit(owner.ask, "copy", COPY_S): owner for owner in owners}
    for copy in as_completed(copies):
        said, owner = copy.result(), copies[copy]
        file = Path(str(said["file"]))
        file.rename(folder / f"{owner.name}.db")
        done(owner.name, file_bytes(folder / f"{owner.name}.db"))


def file_bytes(file: Path) -> int:
    """The size of a file."""
    return file.stat().st_size


def _resting(
    names: Sequence[str], known: dict[str, Path], folder: Path, done: Callable[[str, int], None]
) -> None:
    """Copy the databases that nobody has open; one that was never made is left out."""
    for name in names:
        if known[name].exists():
            done(name, snapshot.copy_file(known[name], folder / f"{name}.db"))


def take(project: Project, name: str, *, done: Callable[[str, int], None]) -> archive.Manifest:
    """Back everything up at one cut. Raises: Conflict, Unavailable, what an owner answers."""
    known = files(project)
    archive.folder_of(project.data, name)
    with archive.made(project.data, name) as folder, contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(1, len(known))))
        try:
            owners, resting = _owners(project, known)
        except NotRunning:
            (project.data / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(state.locked(project.data))
            owners, resting = [], list(known)
        if owners:
            _cut(owners, pool)
        taken_ms = clock.now_ms()
        _copied(owners, folder, pool, done)
        _resting(resting, known, folder, done)
        there = [each for each in known if (folder / f"{each}.db").exists()]
        if not there:
            raise Conflict("there is nothing to back up yet", hint="mesh up -d", code="no-data")
        parts = [archive.described(folder, each, project.config.bus) for each in there]
        made = archive.manifest(name, project.config.name, taken_ms, parts, _left_out(project))
        archive.write(folder, made)
    return made


def _list(project: Project, *, as_json: bool) -> None:
    found = [archive.read(project.data, name) for name in archive.names(project.data)]
    if as_json:
        output.json_line({"schema": "mesh.backups/1", "backups": codec.plain(found)})
        return
    if not found:
        output.note("there are no backups   make one: mesh backup NAME")
        return
    output.table(
        ["NAME", "TAKEN", "DATABASES", "SIZE"],
        [
            [
                each.name,
                each.taken_at,
                ", ".join(part.name for part in each.parts),
                f"{sum(part.bytes for part in each.parts) / 2**20:.1f}M",
            ]
            for each in found
        ],
    )


@verb("mesh backup before-the-upgrade", "mesh backup", "mesh backup nightly --json")
@click.argument("name", required=False, metavar="[NAME]")
@json_option
@click.pass_context
def command(ctx: click.Context, *, name: str | None, as_json: bool) -> None:
    """Copy every database at one cut, while the mesh serves; without a name, list the copies.

    The copies are of one moment: every writer stands for at most 50 ms. They lie in
    data/backups/NAME; `mesh restore NAME` brings them back.
    """
    project = Project.of(ctx)
    if name is None:
        _list(project, as_json=as_json)
        return
    begun_s = clock.monotonic_s()

    def done(part: str, size: int) -> None:
        passed_s = clock.monotonic_s() - begun_s
        output.note(f"{part:<8} {size / 2**20:7.1f} MiB  {passed_s:.1f} s")

    made = take(project, name, done=done)
    if as_json:
        output.json_line(codec.plain(made))
    output.note(f"backed up as {name}   bring it back: mesh restore {name}")
