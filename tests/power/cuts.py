"""The disk as it would be had the power gone at some moment of a recorded run.

What was written and not synced since is lost, or some of it was written all the same, in any
order, each write whole or only its first sectors.
"""

from __future__ import annotations

import asyncio
import collections
import random
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tests.power import story
from tests.power.recorder import Cut, Delete, Mark, Sync, Write, recorded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.power.recorder import Operation

SECTOR = 512
KEPT = 0.5
TORN = 0.2
"""Of what was not synced: how often a write is there all the same, and then only in part."""

LOGS = ("-wal", "-journal")

MARKS_PER_ORDER = 1.7
"""Orders and, for two or three of them, one mark of the log and one of the other database."""

MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Outcome(NamedTuple):
    """What was found.

    `settled`: the files that a write-ahead log was copied back into while cuts were made.
    `fallen`: cuts that took back what was delayed.
    """

    cuts: int
    points: int
    settled: set[str]
    fallen: int
    wrong: list[str]


class Disk:
    """What is surely there, and what may be."""

    def __init__(self) -> None:
        self.synced: dict[str, bytearray] = {}
        self.pending: dict[str, list[Operation]] = collections.defaultdict(list)

    def do(self, operation: Operation) -> None:
        match operation:
            case Write() | Cut() | Delete(durable=False):
                self.pending[operation.path].append(operation)
            case Sync(path):
                if path not in self.synced and path.endswith(LOGS):
                    self._sync_directory(Path(path).parent)
                for each in self.pending.pop(path, ()):
                    _change(self.synced, each)
                self.synced.setdefault(path, bytearray())
            case Delete(path):
                self.synced.pop(path, None)
                self.pending.pop(path, None)

    def _sync_directory(self, directory: Path) -> None:
        """What was deleted there stays so: SQLite syncs it with the first sync of a new log."""
        for path, operations in list(self.pending.items()):
            gone = [n for n, each in enumerate(operations) if isinstance(each, Delete)]
            if gone and Path(path).parent == directory:
                self.synced.pop(path, None)
                del operations[: gone[-1] + 1]

    def after_cut(self, chance: random.Random | None) -> dict[str, bytearray]:
        """The files; `chance` None: all that was not synced is lost."""
        files = {path: bytearray(content) for path, content in self.synced.items()}
        if chance is None:
            return files
        for operations in self.pending.values():
            for each in operations:
                if chance.random() < KEPT:
                    torn = isinstance(each, Write) and chance.random() < TORN
                    _change(files, _torn(each, chance) if torn else each)
        return files


def _torn(write: Write, chance: random.Random) -> Write:
    sectors = chance.randrange(len(write.data) // SECTOR + 1)
    return Write(write.path, write.offset, write.data[: sectors * SECTOR])


def _change(files: dict[str, bytearray], operation: Operation) -> None:
    match operation:
        case Write(path, offset, data):
            content = files.setdefault(path, bytearray())
            content.extend(bytes(max(0, offset - len(content))))
            content[offset : offset + len(data)] = data
        case Cut(path, length):
            content = files.setdefault(path, bytearray())
            del content[length:]
            content.extend(bytes(length - len(content)))
        case Delete(path):
            files.pop(path, None)


def _moments(notes: list[Operation], chance: random.Random) -> Iterator[tuple[int, bool]]:
    """After which operations to cut: at every mark, and once somewhere before it."""
    last = next(n for n, each in enumerate(notes) if each == Mark("ready", 0))
    yield last, True
    for number in range(last + 1, len(notes)):
        if isinstance(notes[number], Mark):
            if number - last > 1:
                yield chance.randrange(last + 1, number), False
            yield number, True
            last = number


def cut_power(cuts: int, seed: int = 1, told: Callable[[int, int], None] | None = None) -> Outcome:
    """Record one run, and cut it `cuts` times.

    At each mark at least once with everything lost that was not synced, and otherwise with some
    of it kept.
    """
    chance = random.Random(seed)
    orders = max(20, round(cuts / MARKS_PER_ORDER / 4))
    with tempfile.TemporaryDirectory(prefix="mesh-power-", dir=MEMORY) as name, story.small_logs():
        source = Path(name) / "run"
        with recorded() as notes:
            asyncio.run(story.tell(source, orders, notes, seed))
        moments = list(_moments(notes, chance))
        points = sum(at_mark for _, at_mark in moments)
        each, rest = divmod(cuts, len(moments))
        disk, done, wrong, at, fallen = Disk(), 0, [], 0, 0
        marks: dict[str, int] = {}
        for turn, (moment, at_mark) in enumerate(moments):
            while at <= moment:
                operation = notes[at]
                if isinstance(operation, Mark):
                    marks[operation.what] = max(operation.number, marks.get(operation.what, 0))
                else:
                    disk.do(operation)
                at += 1
            for number in range(each + (turn < rest)):
                files = disk.after_cut(None if at_mark and number == 0 else chance)
                found, back = _look(source, files, marks)
                fallen += back > 0
                done += 1
                if found:
                    wrong.append(f"operation {moment}, cut {number}: {found}")
            if told is not None:
                told(done, len(wrong))
    after = notes[moments[0][0] :]
    settled = {Path(each.path).name for each in after if isinstance(each, Write)}
    return Outcome(done, points, {name for name in settled if name.endswith(".db")}, fallen, wrong)


def _look(source: Path, files: dict[str, bytearray], marks: dict[str, int]) -> tuple[str, int]:
    with tempfile.TemporaryDirectory(prefix="mesh-cut-", dir=MEMORY) as name:
        target = Path(name)
        story.copy_locks(source, target)
        for path, content in files.items():
            place = target / Path(path).relative_to(source)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
        return asyncio.run(story.verdict(target, marks))
