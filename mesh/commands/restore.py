"""`mesh restore`.

Whatever happens in between, all databases are the old ones or the new ones: new files are made ready
beside the old ones, and what is to be moved is written down before anything is (`replacing`).
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
from mesh.errors import NotRunning, WrongUsage
from mesh.framework import history
from mesh.orchestrator import replacing, state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mesh.orchestrator.remote import Remote

KEPT_MAX = 2
"""Replaced databases kept beside each; the oldest goes when another joins them."""

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
    """Have these programs at rest, whatever others ask; those that were to run run again afterwards.

    What is handed out is the mesh if it runs. Nobody can begin one meanwhile, or copy databases.
    """
    with output.Live() as progress, alone(project, progress), _at_rest(project, programs) as remote:
        yield remote


@contextlib.contextmanager
def _at_rest(project: Project, programs: Sequence[str]) -> Iterator[Remote | None]:
    try:
        remote = project.remote()
    except NotRunning:
        (project.data / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
        with state.locked(project.data, "its databases are being restored"):
            yield None
        return
    names, again = ", ".join(programs), None
    try:
        with contextlib.ExitStack() as holding, contextlib.ExitStack() as replaces:
            replaces.enter_context(replacing.held(project.data))
            with output.Live() as progress:
                progress.show([f"stopping {names}"])
                again = holding.enter_context(remote.hold(programs, "being restored"))
            output.note(f"stopped {names}")
            yield remote
    finally:
        if again is not None:
            _told(project, programs, again)


def _told(project: Project, programs: Sequence[str], again: Sequence[str]) -> None:
    """Say what runs again by now, and what does not."""
    if state.running(project.data) is None:
        output.note("the mesh went down meanwhile   start: mesh up -d")
        return
    if again:
        output.note(f"starting {', '.join(again)}   ready: mesh wait")
    if resting := [name for name in programs if name not in again]:
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


def _swap(
    project: Project, places: Sequence[Place], stamp: str, *, log: bool = False
) -> list[Path]:
    """Put the new files in the place of the old ones; where those are kept.

    Args:
        log: have the bus's log aside too, to be rebuilt: it holds what was told after the cut.

    Raises: Broken; all old files are back in their places then, or it says which are not.
    """
    moves: list[replacing.Move] = []
    kept: list[Path] = []
    for place in places:
        kept.append(aside := place.folder / f"{REPLACED}{stamp}")
        moves += _aside(place.file, aside)
        wal = place.draft.with_name(f"{place.draft.name}-wal")
        if wal.exists():
            moves.append((wal, place.file.with_name(f"{place.file.name}-wal")))
        moves.append((place.draft, place.file))
    if log:
        folder = project.data / BUS
        moves += _aside(folder / "bus.db", folder / f"{REPLACED}{stamp}")
    replacing.carry_out(project.data, moves)
    return kept


def _aside(file: Path, folder: Path) -> list[replacing.Move]:
    """Moves of a database that there may be, to a folder made for it."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = (file.with_name(f"{file.name}{suffix}") for suffix in SUFFIXES)
    return [(each, folder / each.name) for each in found if each.exists()]


def _tidy(places: Sequence[Place]) -> None:
    """Leave no drafts, and of what was replaced the newest KEPT_MAX."""
    for place in places:
        shutil.rmtree(place.draft.parent, ignore_errors=True)
        kept = sorted(place.folder.glob(f"{REPLACED}*"))
        for each in kept:
            with contextlib.suppress(OSError):  # it holds something
                each.rmdir()
        kept = [each for each in kept if each.exists()]
        for old in kept[:-KEPT_MAX]:
            shutil.rmtree(old, ignore_errors=True)


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
    with _stopped(project, programs) as remote:
        stamp = str(clock.now_ms())
        log = forks.Log(project, None if BUS in programs else remote)
        try:
            with output.Live() as progress:
                for number, place in enumerate(places, 1):
                    progress.show([f"{number} of {len(places)}  bringing back {place.name}"])
                    _ready(project, name, place)
                progress.show(["beginning a new epoch of every stream"])
                _go_on(places, log, whole=whole)
            kept = _swap(project, places, stamp, log=whole and bool(project.config.bus))
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
    if adopts:
        adopt(project, words)
    else:
        restore(project, words[0], words[1:])
