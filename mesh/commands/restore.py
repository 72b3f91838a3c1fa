"""`mesh restore`.

Whatever happens in between, a database is the old one or the new one: new files are made ready
beside the old ones, which are then moved aside one after the other, and moved back if one fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from mesh import bus, clock, snapshot
from mesh.bus import Others
from mesh.commands import archive, forks, output
from mesh.commands.cut import alone, files
from mesh.commands.project import Project, check_names
from mesh.commands.verb import verb
from mesh.configs.check import BUS
from mesh.errors import Broken, NotRunning, WrongUsage
from mesh.framework import history
from mesh.orchestrator import state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mesh.orchestrator.remote import Remote

KEPT_MAX = 2
"""Replaced databases kept beside each; the oldest goes when another joins them."""

WANTED = ("ready", "degraded", "starting", "backoff", "failed")
"""States of programs that are meant to run; one that failed may have done so for what is restored."""

BESIDE = "restoring"
REPLACED = "replaced-"
SUFFIXES = ("", "-wal", "-shm")


@dataclass(frozen=True, slots=True)
class Place:
    """A database that is to be replaced or adopted."""

    name: str
    file: Path
    url: str

    @property
    def folder(self) -> Path:
        """The directory it lies in."""
        return self.file.parent

    @property
    def draft(self) -> Path:
        """Where the new file is made ready, under its own name."""
        return self.folder / BESIDE / self.file.name

    @property
    def program(self) -> str:
        """Who has it open."""
        return BUS if self.name == archive.HOSTED else self.name


def _places(project: Project, names: Sequence[str]) -> list[Place]:
    known = files(project)
    urls = {name: service.database for name, service in project.config.services.items()}
    return [Place(name, known[name], urls.get(name, project.config.bus)) for name in names]


@contextlib.contextmanager
def _stopped(project: Project, programs: Sequence[str]) -> Iterator[Remote | None]:
    """Have these programs at rest; those that ran run again afterwards.

    What is handed out is the mesh if it runs; else nobody can start it meanwhile.
    """
    try:
        remote = project.remote()
    except NotRunning:
        (project.data / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
        with state.locked(project.data):
            yield None
        return
    rows = {str(row["name"]): str(row["state"]) for row in remote.status()["services"]}
    ran = [name for name in programs if rows.get(name) in WANTED]
    resting = [name for name in programs if name not in ran]
    with output.Live() as progress:
        progress.show([f"stopping {', '.join(programs)}"])
        remote.stop(programs)
    output.note(f"stopped {', '.join(programs)}")
    try:
        yield remote
    finally:
        if ran:
            remote.start(ran)
            output.note(f"starting {', '.join(ran)}   ready: mesh wait")
        if resting:
            output.note(f"did not run before   start: mesh start {' '.join(resting)}")


def _adopt(place: Place, folder: Path, others: dict[str, Others]) -> None:
    """Have the file in `folder` go on in a new epoch."""
    if place.name == archive.HOSTED:
        bus.adopt(place.url, folder, others)
    else:
        mine = others.get(place.name, bus.NOBODY)
        asyncio.run(history.adopt(folder, place.name, mine, place.url))


def _ready(project: Project, backup: str, place: Place) -> None:
    """Lay the file of the backup beside the one that it will replace."""
    folder = place.draft.parent
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    source = archive.folder_of(project.data, backup) / f"{place.name}.db"
    shutil.copyfile(source, place.draft)
    place.draft.chmod(0o600)
    snapshot.sync_file(place.draft)


def _go_on(places: Sequence[Place], log: forks.Log, *, whole: bool) -> None:
    """Give the new files their new epochs.

    Args:
        whole: all go back to one cut together, so nobody is left who went on from elsewhere: one
            epoch for all, greater than any before, and nothing to be told again.
    """
    old = {place: forks.lineages_in(place.name, place.file, place.url) for place in places}
    if not whole:
        for place in places:
            found = forks.others(log, place.name, place.draft, place.url, old[place])
            _adopt(place, place.draft.parent, found)
        return
    lineages = [{name: found.epochs for name, found in log.states.items()}, *old.values()]
    lineages += [forks.lineages_in(place.name, place.draft, place.url) for place in places]
    numbers = [each.epoch for found in lineages for epochs in found.values() for each in epochs]
    beyond = Others(floor=max(numbers, default=0))
    for place in places:
        streams = forks.lineages_in(place.name, place.draft, place.url)
        _adopt(place, place.draft.parent, dict.fromkeys(streams, beyond))


def _swap(places: Sequence[Place], stamp: str) -> list[Path]:
    """Put the new files in the place of the old ones; where those are kept.

    Raises: Broken; all old files are back in their places then, or it says which are not.
    """
    undo: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        source.rename(target)
        undo.append((source, target))

    kept: list[Path] = []
    try:
        for place in places:
            aside = place.folder / f"{REPLACED}{stamp}"
            aside.mkdir(mode=0o700)
            kept.append(aside)
            for suffix in SUFFIXES:
                old = place.file.with_name(place.file.name + suffix)
                if old.exists():
                    move(old, aside / old.name)
            wal = place.draft.with_name(f"{place.draft.name}-wal")
            if wal.exists():
                move(wal, place.file.with_name(f"{place.file.name}-wal"))
            move(place.draft, place.file)
            snapshot.sync_directory(place.folder)
    except OSError as error:
        _back(undo)
        raise Broken(
            f"nothing was restored: {error.filename}: {error.strerror}", hint="mesh doctor"
        ) from None
    return kept


def _back(undo: list[tuple[Path, Path]]) -> None:
    """Undo moves. Raises: Broken, saying what to move by hand."""
    for source, target in reversed(undo):
        try:
            target.rename(source)
        except OSError as error:
            raise Broken(
                f"{target} could not be moved back: {error.strerror}",
                hint=f"mv {target} {source}",
            ) from None


def _tidy(places: Sequence[Place]) -> None:
    """Leave no drafts, and of what was replaced the newest KEPT_MAX."""
    for place in places:
        shutil.rmtree(place.draft.parent, ignore_errors=True)
        kept = sorted(place.folder.glob(f"{REPLACED}*"))
        for old in kept[:-KEPT_MAX]:
            shutil.rmtree(old, ignore_errors=True)


def _forget_log(project: Project, stamp: str) -> None:
    """Let the bus's log be rebuilt: it holds what was told after the cut."""
    folder = project.data / BUS
    aside = folder / f"{REPLACED}{stamp}"
    aside.mkdir(mode=0o700, exist_ok=True)
    for suffix in SUFFIXES:
        file = folder / f"bus.db{suffix}"
        if file.exists():
            file.rename(aside / file.name)
    snapshot.sync_directory(folder)


def restore(project: Project, name: str, wanted: Sequence[str]) -> None:
    """Bring databases back from a backup, in new epochs.

    Raises: NotFound, WrongUsage, Broken (damaged, or not to be moved), what stopping raises.
    """
    found = archive.read(project.data, name)
    parts = [part.name for part in found.parts]
    check_names(wanted, parts, what="database")
    chosen = list(wanted) or parts
    archive.check(project.data, found, chosen)
    missing = [part for part in chosen if part not in files(project)]
    if missing:
        raise WrongUsage(
            f"this configuration has no {', '.join(missing)}, which the backup `{name}` has",
            hint=f"mesh restore {name} {' '.join(part for part in chosen if part not in missing)}",
        )
    whole = set(chosen) >= set(files(project))
    places = _places(project, chosen)
    programs = [
        *(place.program for place in places),
        *([BUS] if whole and project.config.bus else []),
    ]
    programs = list(dict.fromkeys(programs))
    stamp = str(clock.now_ms())
    with _stopped(project, programs) as remote:
        log = forks.Log(project, None if BUS in programs else remote)
        try:
            with output.Live() as progress:
                for number, place in enumerate(places, 1):
                    progress.show([f"{number} of {len(places)}  bringing back {place.name}"])
                    _ready(project, name, place)
                progress.show(["beginning a new epoch of every stream"])
                _go_on(places, log, whole=whole)
            kept = _swap(places, stamp)
            if whole and project.config.bus:
                _forget_log(project, stamp)
        finally:
            _tidy(places)
    output.note(f"restored {', '.join(chosen)} as of {found.taken_at}")
    output.note(f"what was there is kept beside each, in {kept[0].name}/")
    if not whole:
        output.note("who has heard what is replaced: mesh events diverged")


def adopt(project: Project, wanted: Sequence[str]) -> None:
    """Go on from the files that lie there, in new epochs.

    Raises: NotFound, WrongUsage, DatabaseBroken, what stopping raises.
    """
    known = files(project)
    check_names(wanted, list(known), what="database")
    absent = [name for name in wanted if not known[name].exists()]
    if absent:
        raise WrongUsage(f"{', '.join(absent)} has no file yet", hint="mesh up -d")
    places = _places(project, list(wanted))
    programs = list(dict.fromkeys(place.program for place in places))
    with _stopped(project, programs) as remote:
        log = forks.Log(project, None if BUS in programs else remote)
        for place in places:
            snapshot.check(place.file)
            found = forks.others(log, place.name, place.file, place.url, {})
            _adopt(place, place.folder, found)
    output.note(f"{', '.join(wanted)} goes on from its own file, in a new epoch")


@verb(
    "mesh restore before-the-upgrade",
    "mesh restore before-the-upgrade order",
    "mesh restore --adopt order",
)
@click.argument("words", nargs=-1, required=True, metavar="NAME [SVC]...")
@click.option(
    "--adopt",
    "adopts",
    is_flag=True,
    help="Take no backup: go on from the files of these services as they lie there.",
)
@click.pass_context
def command(ctx: click.Context, *, words: tuple[str, ...], adopts: bool) -> None:
    """Bring databases back from a backup: all of them, or those of some services.

    What is restored is stopped and started again, and goes on in a new epoch: whoever has seen
    what happened after the backup is told, steps back, and shows it.
    """
    project = Project.of(ctx)
    with output.Live() as progress, alone(project, progress):
        if adopts:
            adopt(project, words)
        else:
            restore(project, words[0], words[1:])
