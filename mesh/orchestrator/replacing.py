"""Files of a data folder replaced by others: all of them or none, whatever dies meanwhile.

What is to be moved is written down before the first file is, by names within the folder, which may
be moved itself. Whoever takes the data folder next, or starts programs in it again, makes the moves
that are left. Standard library only, as `state`.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from mesh.errors import AlreadyRunning, Broken

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Move = tuple[Path, Path]
"""From where to where, within one file system."""

TRIES = 20
TRY_S = 0.005
"""Whoever looks whether files are being replaced holds the lock for a moment; and the kernel closes
the files of a process that was killed in no order that others could rely on."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def _plan_path(data_dir: Path) -> Path:
    return data_dir / "run" / "replacing.json"


@contextlib.contextmanager
def held(data_dir: Path) -> Iterator[None]:
    """Be the one who replaces files: no mesh begins on them meanwhile, whatever becomes of this one.

    Raises: AlreadyRunning when somebody else does; Broken as `settle`, which comes first.
    """
    with _alone(data_dir):
        _finish(data_dir)
        yield


@contextlib.contextmanager
def _alone(data_dir: Path) -> Iterator[None]:
    try:
        folder = os.open(data_dir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise Broken(f"{data_dir}: {error.strerror}", hint="mesh doctor") from None
    try:
        for _ in range(TRIES):
            if _locked(folder):
                break
            sleep(TRY_S)
        else:
            raise AlreadyRunning(
                "a restore replaces the databases here",
                code="being-restored",
                hint="try again when it has ended",
            )
        yield
    finally:
        os.close(folder)


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def carry_out(data_dir: Path, moves: Sequence[Move]) -> None:
    """Make every move or none; call it within `held`, or under the mesh's lock.

    Raises: Broken; everything is back in its place then, or it says what is not.
    """
    plan = _plan_path(data_dir)
    undo: list[Move] = []
    with _unbroken():
        _write(plan, [[os.path.relpath(path, data_dir) for path in move] for move in moves])
        try:
            for source, target in moves:
                source.rename(target)
                undo.append((source, target))
            _sync(target.parent for _, target in moves)
        except OSError as error:
            _back(undo)
            raise Broken(
                f"nothing was restored: {error.filename}: {error.strerror}", hint="mesh doctor"
            ) from None
        finally:
            plan.unlink()


def settle(data_dir: Path) -> bool:
    """Make the moves that somebody who was killed has left; whether there were any.

    Raises: AlreadyRunning while somebody replaces files; Broken when a move cannot be made.
    """
    with _alone(data_dir):
        return _finish(data_dir)


def _finish(data_dir: Path) -> bool:
    plan = _plan_path(data_dir)
    try:
        found = json.loads(plan.read_text("utf-8"))
        moves = [(data_dir / source, data_dir / target) for source, target in found]
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError):
        raise Broken(
            f"a restore was cut off, and what it had to move cannot be read in {plan}",
            hint=f"rm -r {plan}, then mesh restore",
        ) from None
    try:
        for source, target in moves:
            if source.exists() and not target.exists():
                source.rename(target)
        _sync(target.parent for _, target in moves)
        plan.unlink()
    except OSError as error:
        raise Broken(
            f"a restore was cut off: {error.filename}: {error.strerror}", hint="mesh doctor"
        ) from None
    return True


@contextlib.contextmanager
def _unbroken() -> Iterator[None]:
    """Nobody's Ctrl-C or hang-up comes in between; it is heard afterwards. In the main thread only."""
    heard: list[int] = []
    meant = {
        number: signal.signal(number, lambda number, _: heard.append(number))
        for number in ENDING
        if signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, before in meant.items():
            signal.signal(number, before)
        for first in heard[:1]:
            os.kill(os.getpid(), first)


def _back(undo: Sequence[Move]) -> None:
    """Undo moves. Raises: Broken, saying what to move by hand."""
    for source, target in reversed(undo):
        try:
            target.rename(source)
        except OSError as error:
            raise Broken(
                f"{target} could not be moved back: {error.strerror}",
                hint=f"mv {target} {source}",
            ) from None


def _write(plan: Path, moves: object) -> None:
    """Whole or not at all, and durable before anything is moved."""
    draft = plan.with_name(f".{plan.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(moves, file)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(plan)
    _sync([plan.parent])


def _sync(folders: Iterable[Path]) -> None:
    for folder in dict.fromkeys(folders):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
