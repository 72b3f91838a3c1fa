"""Health questions put to a program from outside: does it answer, and what?

An answer is good, a *no* (it answered, and badly) or *silence* (nobody answered in time). What
follows from that is decided in `restart.py`; when to ask is `runner.py`'s business.
"""

from __future__ import annotations

import asyncio
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from mesh import codec
from mesh.config import Healthcheck
from mesh.errors import ConfigInvalid
from mesh.orchestrator.plan import HOST

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from mesh.orchestrator.contract import Program

AGAIN_S = 0.02
"""Between two questions while a program starts: a refused connection costs microseconds."""

COMMAND_AGAIN_S = 0.1
"""The same where asking means to run a program."""

ANSWER_BYTES_MAX = 1024
"""Read of an answer: a status line and the beginning of what follows it."""

TEXT_CHARS_MAX = 200
"""Of an answer, as it is shown."""

_CONNECTING = ("http", "tcp")
_COMMANDS = ("CMD", "CMD-SHELL")


class Answer(Struct, frozen=True):
    """What a question brought; `silent`: nobody answered."""

    ok: bool
    text: str
    silent: bool = False


class Reach(NamedTuple):
    """How one program is reached.

    `run` runs a command beside it, in its environment, and returns exit status and last output;
    cancelled, it kills the command. `lines` are those it has logged since it was last asked.
    """

    port: int | None
    run: Callable[[Sequence[str]], Awaitable[tuple[int, str]]]
    lines: Callable[[], Iterable[str]]


def question(program: Program) -> Healthcheck | None:
    """How to find out whether `program` is ready; None if it says so, or is once it runs."""
    asked = program.health or Healthcheck()
    if asked.test is not None:
        return None if asked.test[0] in {"notify", "NONE"} else asked
    if program.entry is None and program.port is not None and program.socket == "own":
        return codec.replace(asked, test=("tcp",))
    return None


def tells(program: Program) -> bool:
    """Whether it is not ready before it says READY=1 itself."""
    test = program.health.test if program.health is not None else None
    return test == ("notify",) or (program.entry is not None and test in {None, ("NONE",)})


def heeds(program: Program) -> bool:
    """Whether its READY=1 counts: always, but where another question is put to it on purpose."""
    return tells(program) or program.health is None or program.health.test is None


def lasts(program: Program) -> bool:
    """Whether the question goes on being asked once it was answered well."""
    asked = question(program)
    return asked is not None and program.health is asked and words(asked)[0] != "log"


def again_s(asked: Healthcheck, *, starting: bool) -> float:
    """How long to wait before the next question."""
    if not starting:
        return asked.interval_s
    if asked.start_interval_s is not None:
        return asked.start_interval_s
    return COMMAND_AGAIN_S if words(asked)[0] in _COMMANDS else AGAIN_S


def words(asked: Healthcheck) -> tuple[str, ...]:
    """The question itself; `("tcp",)` where nothing else is said."""
    return asked.test or ("tcp",)


def check(programs: Iterable[Program]) -> None:
    """Refuse questions that cannot be asked.

    Raises: ConfigInvalid with every complaint.
    """
    complaints = tuple(
        f"{program.name}: healthcheck {words(asked)[0]} needs a port"
        for program in programs
        if (asked := question(program)) is not None
        if words(asked)[0] in _CONNECTING and program.port is None
    )
    if complaints:
        raise ConfigInvalid(complaints)


async def ask(asked: Healthcheck, reach: Reach) -> Answer:
    """Put the question once; never longer than its timeout.

    Cancellation: at any await; no connection and no command stays.
    """
    try:
        async with asyncio.timeout(asked.timeout_s):
            return await _asked(words(asked), reach)
    except TimeoutError:
        return Answer(ok=False, text=f"no answer within {asked.timeout_s:g} s", silent=True)
    except OSError as error:
        text = os.strerror(error.errno).lower() if error.errno else type(error).__name__
        return Answer(ok=False, text=text, silent=True)


async def _asked(test: tuple[str, ...], reach: Reach) -> Answer:
    match test:
        case ("log", expression):
            return _logged(expression, reach.lines())
        case ("CMD", *argv):
            return _ended(*await reach.run(argv))
        case ("CMD-SHELL", line):
            return _ended(*await reach.run(("/bin/sh", "-c", line)))
        case ("http", path):
            return await _http(path, reach.port or 0)
        case _:
            _, writer = await asyncio.open_connection(HOST, reach.port)
            writer.transport.abort()
            return Answer(ok=True, text="connected")


def _logged(expression: str, lines: Iterable[str]) -> Answer:
    for line in lines:
        if re.search(expression, line):
            return Answer(ok=True, text=line[:TEXT_CHARS_MAX])
    return Answer(ok=False, text="no such line yet")


def _ended(status: int, output: str) -> Answer:
    how = f"signal {-status}" if status < 0 else f"exit {status}"
    last = output.strip().rpartition("\n")[2][:TEXT_CHARS_MAX]
    return Answer(ok=status == 0, text=f"{how}: {last}" if last else how)


async def _http(path: str, port: int) -> Answer:
    reader, writer = await asyncio.open_connection(HOST, port, limit=ANSWER_BYTES_MAX)
    try:
        asked = f"GET {path} HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n"
        writer.write(asked.encode())
        answer = (await reader.read(ANSWER_BYTES_MAX)).decode("utf-8", "replace")
    finally:
        writer.transport.abort()
    if not answer:
        return Answer(ok=False, text="connection closed without an answer", silent=True)
    head, _, body = answer.partition("\r\n\r\n")
    version, _, status = head.partition("\r\n")[0].partition(" ")
    if not version.startswith("HTTP/1.") or not status[:1].isdigit():
        return Answer(ok=False, text="what answers is no HTTP")
    shown = " ".join(body.split())
    text = f"{status}: {shown}" if shown and not status.startswith("2") else status
    return Answer(ok=status.startswith("2"), text=text[:TEXT_CHARS_MAX])
