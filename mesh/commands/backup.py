"""`mesh backup`."""

from __future__ import annotations

import click

from mesh import clock, codec
from mesh.commands import archive, cut, output
from mesh.commands.project import Project
from mesh.commands.verb import json_option, verb
from mesh.errors import Conflict

LOG_LEFT_OUT = "a replica: it is rebuilt from the outboxes"


def _left_out(project: Project) -> dict[str, str]:
    others = {
        name: "a program with files of its own"
        for name, service in project.config.services.items()
        if not service.module
    }
    return {**others, "bus.db": LOG_LEFT_OUT} if project.config.bus else others


def take(project: Project, name: str, progress: output.Live) -> archive.Manifest:
    """Back everything up at one cut. Raises: Conflict, Unavailable, what an owner answers."""
    begun_s = clock.monotonic_s()
    waiting = "copying every database at one cut, while the mesh serves"

    def done(part: str, size: int) -> None:
        passed_s = clock.monotonic_s() - begun_s
        progress.clear()
        output.note(f"{part:<8} {size / 2**20:7.1f} MiB  {passed_s:.1f} s")
        progress.show([waiting])

    archive.folder_of(project.data, name)
    with cut.alone(project, progress), archive.made(project.data, name) as folder:
        progress.show([waiting])
        taken_ms, there = cut.take(project, folder, with_log=False, done=done)
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
    with output.Live() as progress:
        made = take(project, name, progress)
    if as_json:
        output.json_line(codec.plain(made))
    output.note(f"backed up as {name}   bring it back: mesh restore {name}")
