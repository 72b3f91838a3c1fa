"""Go on in the background: one fork, and a word back to the one who waits for it."""

from __future__ import annotations

import json
import os
import select
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from mesh import errors
from mesh.errors import MeshError, ProgramFailed
from mesh.orchestrator import logs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

BEGIN_S = 30.0
"""From the fork until the mesh holds its lock and sockets: longer than any slow disk needs."""

WORD_BYTES_MAX = 64 * 1024

_STDIO = (0, 1, 2)


def begin(work: Callable[[Callable[[], None]], None], log: Path) -> None:
    """Run `work` in a process of its own; returns when it calls what it is given: "all is well".

    Call it before any thread, loop or socket exists. The new process leads a session, has
    /dev/null for input, `log` for output, and no other descriptor of ours.

    Raises: what `work` raised before that, as the same class; ProgramFailed when it died.
    """
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_mesh(work, log, writing)
    os.close(writing)
    try:
        word = _hear(reading)
    finally:
        os.close(reading)
    if word is None:
        raise ProgramFailed("the mesh ended before it had begun", evidence=logs.last_lines(log, 10))
    error = word.get("error")
    if isinstance(error, dict):
        os.waitpid(pid, 0)
        raise _as_raised(error)


def _hear(reading: int) -> dict[str, object] | None:
    """The one word from the other side; None if it hung up or was silent for too long."""
    raw = b""
    while not raw.endswith(b"\n") and len(raw) < WORD_BYTES_MAX:
        ready, _, _ = select.select([reading], [], [], BEGIN_S)
        piece = os.read(reading, WORD_BYTES_MAX) if ready else b""
        if not piece:
            return None
        raw += piece
    word: dict[str, object] = json.loads(raw)
    return word


def _be_the_mesh(work: Callable[[Callable[[], None]], None], log: Path, writing: int) -> NoReturn:
    """The life of the forked process; it never returns into the caller's stack."""
    code = 1
    try:
        os.setsid()
        os.umask(0o077)
        _only(writing, log)

        def say(word: dict[str, object]) -> None:
            nonlocal writing
            if writing >= 0:
                os.write(writing, json.dumps(word).encode() + b"\n")
                os.close(writing)
                writing = -1

        try:
            work(lambda: say({}))
            code = 0
        except MeshError as error:
            say({"error": _told(error)})
        except OSError as error:
            say({"error": _told(ProgramFailed(f"{error.filename or ''}: {error.strerror}"))})
    except BaseException:  # noqa: BLE001  (nobody above us: the log is the only reader)
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _only(writing: int, log: Path) -> None:
    """Standard streams of our own, and every other descriptor but `writing` closed."""
    null = os.open(os.devnull, os.O_RDONLY)
    output = logs.append_to(log)
    for source, target in zip((null, output, output), _STDIO, strict=True):
        os.dup2(source, target)
    os.closerange(len(_STDIO), writing)
    os.closerange(writing + 1, os.sysconf("SC_OPEN_MAX"))
    os.set_inheritable(writing, False)  # noqa: FBT003  (os.set_inheritable takes it by place)


def _told(error: MeshError) -> dict[str, object]:
    return {
        "type": type(error).__name__,
        "detail": error.detail,
        "code": error.code,
        "hint": error.hint,
        "evidence": list(error.evidence),
    }


def _as_raised(told: dict[str, object]) -> MeshError:
    """The same error on this side."""
    shape = getattr(errors, str(told["type"]), MeshError)
    error: MeshError = MeshError.__new__(shape)
    evidence = told["evidence"]
    MeshError.__init__(
        error,
        str(told["detail"]),
        code=str(told["code"]),
        hint=None if told["hint"] is None else str(told["hint"]),
        evidence=tuple(map(str, evidence)) if isinstance(evidence, list) else (),
    )
    return error
