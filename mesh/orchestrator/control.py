"""The control socket: the supervisor's answers as JSON lines, for this user's processes only.

    {"id":1,"method":"stop","params":{"names":["order"]}}
    {"id":1,"result":[{"name":"order","how":"graceful","after_s":0.03}]}
    {"id":1,"error":{"type":"NotFound","code":"unknown-service","detail":…,"hint":…,…}}

`watch` answers with one `result` after another until the mesh goes down. There is no TCP port
and no password: the folder is 0700, the socket 0600, and the kernel says who is calling.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from typing import TYPE_CHECKING

from msgspec import Struct

from mesh import codec
from mesh.errors import Forbidden, InvalidInput, MeshError, NotFound, Overloaded, TooLarge
from mesh.orchestrator import walls
from mesh.orchestrator.contract import Fault

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mesh.orchestrator.supervisor import Supervisor

REQUEST_BYTES_MAX = 64 * 1024
"""A request is names and numbers; this is a hundred times the largest sensible one."""

CLIENTS_MAX = 64
"""Connections at once: a few dashboards and commands; more is a runaway script."""

IDLE_S = 60.0
"""A connection that asks nothing for this long is closed."""

WRITE_S = 5.0
"""A client that does not read its answer for this long is suspended or gone."""

FLUSH_S = 1.0
"""At the end, how long answers under way may take to leave."""

_UCRED = struct.Struct("3i")


class _Request(Struct, forbid_unknown_fields=True):
    id: int
    method: str
    params: dict[str, object] = {}


class _Nothing(Struct, forbid_unknown_fields=True):
    pass


class _Names(Struct, forbid_unknown_fields=True):
    names: tuple[str, ...]


class _Kill(Struct, forbid_unknown_fields=True):
    names: tuple[str, ...]
    signal: str


class _Down(Struct, forbid_unknown_fields=True):
    timeout_s: float | None = None


class _Token(Struct, forbid_unknown_fields=True):
    subject: str
    audience: str


class _Hold(Struct, forbid_unknown_fields=True):
    names: tuple[str, ...]
    why: str


class _Name(Struct, forbid_unknown_fields=True):
    name: str


class _Inflict(Struct, forbid_unknown_fields=True):
    fault: Fault


METHODS = (
    *("status", "start", "stop", "restart", "kill", "down", "token"),
    *("explain", "lend", "hold", "inflict", "mend", "watch"),
)


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A control socket that callers can connect to from now on; unlinked at the end."""
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(path))
        path.chmod(0o600)
        door.listen(CLIENTS_MAX)
        try:
            yield door
        finally:
            path.unlink(missing_ok=True)


class Control:
    """Serves one supervisor on a listening socket."""

    def __init__(self, supervisor: Supervisor) -> None:
        """Not serving yet."""
        self._supervisor = supervisor
        self._server: asyncio.Server | None = None
        self._clients: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    async def serve(self, door: socket.socket) -> None:
        """Begin to answer; returns at once."""
        self._server = await asyncio.start_unix_server(
            self._accepted, sock=door, limit=REQUEST_BYTES_MAX
        )

    async def close(self) -> None:
        """Let answers under way leave, then hang up on everybody."""
        if self._server is not None:
            self._server.close()
        if self._answering:
            await asyncio.wait(self._answering, timeout=FLUSH_S)
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._converse(reader, writer))
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection: requests in order until either side hangs up."""
        writer.transport.set_write_buffer_limits(high=0)
        try:
            if refusal := self._refusal(writer):
                await _send(writer, 0, "error", _told(refusal))
                return
            while raw := await self._next(reader):
                answering = asyncio.ensure_future(self._answer(raw, reader, writer))
                self._answering.add(answering)
                answering.add_done_callback(self._answering.discard)
                await answering
        except TooLarge as error:
            with contextlib.suppress(OSError, TimeoutError):
                await _send(writer, 0, "error", _told(error))
        except (OSError, TimeoutError):
            pass
        finally:
            writer.transport.abort()

    def _refusal(self, writer: asyncio.StreamWriter) -> MeshError | None:
        pid, uid = _peer(writer)
        if uid != os.getuid():
            return Forbidden("this mesh belongs to another user")
        if self._walled(pid):
            return Forbidden("a program inside walls does not ask who put them up")
        if len(self._clients) > CLIENTS_MAX:
            return Overloaded(f"{CLIENTS_MAX} connections are open already")
        return None

    def _walled(self, pid: int) -> bool:
        """Whether a process is a walled program's, or was: the operator's tokens open every door."""
        branch = walls.branch(pid)
        if branch is None:
            return False
        programs = {row.pid: row for row in self._supervisor.status().services}
        found = programs.get(branch)
        rows = programs.values() if found is None else [found]
        return any(row.sandbox == "landlock" for row in rows)

    async def _next(self, reader: asyncio.StreamReader) -> bytes:
        """The next line; nothing when the client has hung up, was idle, or the mesh is ending."""
        try:
            async with asyncio.timeout(IDLE_S):
                return await reader.readline()
        except ValueError:
            raise TooLarge(f"a request is over {REQUEST_BYTES_MAX} bytes") from None

    async def _answer(
        self, raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        number = 0
        try:
            request = codec.convert(codec.read_json(raw), _Request)
            number = request.id
            if request.method == "watch":
                codec.convert(request.params, _Nothing)
                await self._watch(number, reader, writer)
                return
            if request.method == "lend":
                await self._lend(number, codec.convert(request.params, _Name).name, reader, writer)
                return
            if request.method == "hold":
                await self._hold(number, codec.convert(request.params, _Hold), reader, writer)
                return
            result = await self._do(request.method, request.params)
        except MeshError as error:
            await _send(writer, number, "error", _told(error))
        else:
            await _send(writer, number, "result", result)

    async def _do(self, method: str, params: dict[str, object]) -> object:
        asked, result = self._supervisor, None
        match method:
            case "start":
                asked.start(codec.convert(params, _Names).names)
            case "stop":
                return await asked.stop(codec.convert(params, _Names).names)
            case "restart":
                await asked.restart(codec.convert(params, _Names).names)
            case "kill":
                kill = codec.convert(params, _Kill)
                asked.kill(kill.names, kill.signal)
            case "down":
                return await asked.down(codec.convert(params, _Down).timeout_s)
            case "inflict":
                asked.inflict(codec.convert(params, _Inflict).fault)
            case "mend":
                return asked.mend(codec.convert(params, _Names).names)
            case _:
                return self._tell(method, params)
        return result

    def _tell(self, method: str, params: dict[str, object]) -> object:
        """What only answers."""
        match method:
            case "status":
                codec.convert(params, _Nothing)
                return self._supervisor.status()
            case "explain":
                return self._supervisor.explain(codec.convert(params, _Name).name)
            case "token":
                token = codec.convert(params, _Token)
                return self._supervisor.token(token.subject, token.audience)
            case _:
                raise NotFound(f"no method {method!r}", hint=f"one of {', '.join(METHODS)}")

    async def _lend(
        self, number: int, name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Lend a program for as long as this connection is open."""
        lease = await self._supervisor.lend(name, _peer(writer)[0])
        try:
            await _send(writer, number, "result", lease)
            await reader.read(1)
        finally:
            self._supervisor.give_back([name])

    async def _hold(
        self, number: int, hold: _Hold, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Keep programs at rest for as long as this connection is open."""
        again = await self._supervisor.hold(hold.names, f"{hold.why} (pid {_peer(writer)[0]})")
        try:
            await _send(writer, number, "result", again)
            await reader.read(1)
        finally:
            self._supervisor.give_back(hold.names)

    async def _watch(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Stream until the mesh goes down or the client hangs up or speaks again."""

        async def pump() -> None:
            async with contextlib.aclosing(self._supervisor.watch()) as changes:
                async for change in changes:
                    await _send(writer, number, "result", change)

        pumping = asyncio.ensure_future(pump())
        leaving = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({pumping, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (pumping, leaving):
                task.cancel()
            await asyncio.gather(pumping, leaving, return_exceptions=True)


def _peer(writer: asyncio.StreamWriter) -> tuple[int, int]:
    """Pid and uid of the process that connected."""
    peer: socket.socket = writer.get_extra_info("socket")
    found = peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, _ = _UCRED.unpack(found)
    return pid, uid


async def _send(writer: asyncio.StreamWriter, number: int, kind: str, value: object) -> None:
    """Raises: OSError, TimeoutError when the client is gone or does not read."""
    writer.write(codec.encode({"id": number, kind: value}) + b"\n")
    async with asyncio.timeout(WRITE_S):
        await writer.drain()


def _told(error: MeshError) -> dict[str, object]:
    """An error with all it carries; `Remote` makes the same error of it again."""
    facts = dict(error.facts)
    if isinstance(error, InvalidInput):
        facts["pointer"] = error.pointer
    return {
        "type": type(error).__name__,
        "code": error.code,
        "detail": error.detail,
        "hint": error.hint,
        "evidence": error.evidence,
        "facts": facts,
    }
