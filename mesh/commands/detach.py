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

_OUTPUTS = (1, 2)


class Channel:
    """What the new process has of the one that waits for it."""

    def __init__(self, writing: int) -> None:
        """`writing` leads to the one who waits."""
        self._writing = writing
        self.left = False

    def leave_terminal(self, log: Path) -> None:
        """From now on `log` is this process's output, made if absent with its folder."""
        os.umask(0o077)
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        sys.stdout.flush()
        sys.stderr.flush()
        output = logs.append_to(log)
        for target in _OUTPUTS:
            os.dup2(output, target)
        os.close(output)
        self.left = True

    def say(self, word: dict[str, object]) -> None:
        """The one word that is waited for; later ones are not heard."""
        if self._writing >= 0:
            os.write(self._writing, json.dumps(word).encode() + b"\n")
            os.close(self._writing)
            self._writing = -1


def begin(work: Callable[[Channel], None]) -> dict[str, object]:
    """Run `work` in a process of its own; returns the word that it says first.

    Call it before any thread, loop or socket exists. The new process leads a session and has
    /dev/null for input, our output until it leaves the terminal, and no other descriptor of ours.

    Raises: what `work` raised before that, as the same class; ProgramFailed when it died.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        _be_the_mesh(work, writing)
    os.close(writing)
    try:
        word = _hear(reading)
    finally:
        os.close(reading)
    if word is None:
        raise ProgramFailed("the mesh ended before it had begun", hint="mesh logs mesh -n 20")
    error = word.get("error")
    if isinstance(error, dict):
        os.waitpid(pid, 0)
        raise _as_raised(error)
    return word


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


def _be_the_mesh(work: Callable[[Channel], None], writing: int) -> NoReturn:
    """The life of the forked process; it never returns into the caller's stack."""
    code, channel = 1, Channel(writing)
    try:
        os.setsid()
        _only(writing)
        try:
            work(channel)
            code = 0
        except MeshError as error:
            channel.say({"error": _told(error)})
        except OSError as error:
            failed = ProgramFailed(f"{error.filename or ''}: {error.strerror}")
            channel.say({"error": _told(failed)})
    except BaseException as error:  # noqa: BLE001  (nobody above us: say it, and have it logged)
        if channel.left:
            traceback.print_exc()
        bug = MeshError(f"{type(error).__name__}: {error}", code="internal")
        channel.say({"error": _told(bug)})
    finally:
        sys.stderr.flush()
        os._exit(code)


def _only(writing: int) -> None:
    """No input, our output for now, and every other descriptor but `writing` closed."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.closerange(_OUTPUTS[-1] + 1, writing)
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
