"""Copies of every database at one cut, while the mesh serves: for backups and for verifying.

Only its owner opens a database, so the owners are asked: all hold their writers, each fixes its
moment, all go on, and the copies are made from the moments. With nothing running the files are
copied under the mesh's lock, so that nothing can start meanwhile.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh import bus, clock, database, snapshot
from mesh.commands import archive, http, output
from mesh.commands.operations import members
from mesh.configs.check import BUS
from mesh.errors import Conflict, NotRunning, ServiceUnavailable, Unavailable
from mesh.orchestrator import state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mesh.commands.project import Project

STEP_S = 2.0
"""For one owner to let its writer stand, or to fix its moment."""

COPY_S = snapshot.COPY_S + STEP_S

CUTS_MAX = 50
"""Attempts at one cut: a writer stands 50 ms, and all must stand together."""

TURN_S = 60.0
"""For whoever copies or brings back before us."""

LOOK_S = 0.05
"""Between two looks whether it is our turn."""

UP = ("ready", "degraded")
AT_REST = ("stopped", "failed")
OK = (200, 204)
NOT_NOW = (409, 503)
"""Answers of an owner whose writer stood too long, or could not stand yet."""


@dataclass(frozen=True, slots=True)
class Owner:
    """A program that has its database open: where it is asked, with what, and leaves its copy."""

    name: str
    url: str
    token: str
    copy: Path

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
            raise ServiceUnavailable(f"{self.name} cannot be copied: {why}")
        return said


@contextlib.contextmanager
def alone(project: Project, progress: output.Live) -> Iterator[None]:
    """Be the only one who copies this mesh's databases or brings them back, however we end.

    An owner fixes one moment at a time and leaves its copy in one place: of two cuts at once either
    might get the other's moment.

    Raises: Unavailable after TURN_S.
    """
    run = project.data / "run"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        until_s = clock.monotonic_s() + TURN_S
        while not _locked(folder):
            if clock.monotonic_s() > until_s:
                raise Unavailable(
                    f"another backup, restore or verify of this mesh took longer than {TURN_S:g} s",
                    hint="try again when it has ended",
                )
            progress.show(["waiting for another backup, restore or verify of this mesh"])
            time.sleep(LOOK_S)
        progress.clear()
        yield
    finally:
        os.close(folder)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


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


def sizes(project: Project) -> dict[str, int]:
    """The bytes of every database there is, and of the bus's log, by the name of its copy."""
    every = files(project)
    if project.config.bus:
        every[BUS] = bus.log_file(project.config.bus, project.data / BUS)
    return {name: file_bytes(file) for name, file in every.items() if file.exists()}


def _copy_of(project: Project, name: str) -> Path:
    """Where the owner of a database leaves a copy of it."""
    if name == archive.HOSTED:
        return project.data / BUS / f"{name}.db.backup"
    return project.data / name / f"{name}.backup"


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
            token = remote.token("operator", program)
            owners.append(Owner(name, urls[program], token, _copy_of(project, name)))
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
        copy.result()
        owner, target = copies[copy], folder / f"{copies[copy].name}.db"
        take_in(owner.copy, target)
        done(owner.name, file_bytes(target))


def take_in(copy: Path, target: Path) -> None:
    """Move what an owner has left in its folder, if it is a file there.

    Who has taken over a program would have us move or read what is another's: by naming it in an
    answer, or by a link. So an answer names nothing, and no link is followed.

    Raises: ServiceUnavailable when it left no file.
    """
    try:
        place = os.open(copy.parent, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.rename(copy.name, target, src_dir_fd=place)
        finally:
            os.close(place)
        if stat.S_ISREG(target.lstat().st_mode):
            return
        target.unlink()
    except OSError as error:
        raise ServiceUnavailable(f"{copy} cannot be taken: {error.strerror}") from None
    raise ServiceUnavailable(f"{copy} is no file")


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


def take(
    project: Project, folder: Path, *, with_log: bool, done: Callable[[str, int], None]
) -> tuple[int, list[str]]:
    """Copy everything at one cut into a folder of the same file system; we are `alone`.

    Args:
        with_log: the bus's log too, as it is a moment after the cut.
        done: told of each copy and its bytes.

    Returns: when, in milliseconds of wall time, and what there was.

    Raises: Unavailable, ServiceUnavailable.
    """
    known = files(project)
    with contextlib.ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(max(1, len(known))))
        try:
            owners, resting = _owners(project, known)
        except NotRunning:
            (project.data / "run").mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(state.locked(project.data, "its databases are being copied"))
            owners, resting = [], list(known)
        if owners:
            _cut(owners, pool)
        taken_ms = clock.now_ms()
        _copied(owners, folder, pool, done)
        _resting(resting, known, folder, done)
        if with_log and project.config.bus:
            _log(project, owners, folder, done)
    return taken_ms, [each for each in known if (folder / f"{each}.db").exists()]


def _log(
    project: Project,
    owners: Sequence[Owner],
    folder: Path,
    done: Callable[[str, int], None],
) -> None:
    """The bus's log: by the bus where it runs, else from the file; a log that is not there is not."""
    target = folder / f"{BUS}.db"
    owner = next((each for each in owners if each.name == archive.HOSTED), None)
    if owner is not None:
        owner.ask("log", COPY_S)
        take_in(owner.copy.with_name(f"{BUS}.db.backup"), target)
        done(BUS, file_bytes(target))
        return
    file = bus.log_file(project.config.bus, project.data / BUS)
    if file.exists():
        done(BUS, snapshot.copy_file(file, target))
