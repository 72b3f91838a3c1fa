"""One HTTP/1.1 request and its answer, over connections to one peer that are kept.

Of HTTP only what an ask needs: the request is bytes, one write; the answer is read whole, by
aiohttp's parser unless it is as plain as most are. Nothing is sent twice here: whoever asks knows
what may be repeated. A connection is kept only after an answer that ended as it should, with
nothing behind it.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpResponseParser

from mesh import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.http import RawResponseMessage
    from aiohttp.streams import StreamReader

ANSWER_BYTES_MAX = 4 * 1024 * 1024

KEPT_S = 15.0
"""A connection that was idle for longer is not used: well below what any server waits for the next
request, so that none hangs up just when we ask."""

CONTINUING = 200
"""A status below this announces another one (RFC 9110, 15.2)."""

_SAID_BESIDE = (
    rb"(?:(?:Date|ETag|Location|Content-Type|traceparent|Idempotent-Replayed): [ -~]*\r\n)*"
)
_PLAIN = re.compile(
    rb"HTTP/1\.1 (20[012]) [ -~]*\r\n%b"
    rb"Content-Length: (0|[1-9][0-9]{0,6})\r\n%b\r\n" % (_SAID_BESIDE, _SAID_BESIDE)
)
"""The head of a good answer that says one length, and beside it nothing about where it ends or what
becomes of the connection: so most answers of a service are, and a parser takes ten times as long."""


class UnreachableError(OSError):
    """No connection could be made, so nothing was asked."""


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: Mapping[str, str]
    """By name in any case; those of a plain good answer, which nobody looks at, are left out."""
    body: bytes


def plain(data: bytes) -> Answer | None:
    """An answer of which nothing but its head must be looked at, if this is one, whole and alone."""
    head = _PLAIN.match(data)
    if head is None or len(data) != head.end() + int(head[2]):
        return None
    return Answer(int(head[1]), {}, data[head.end() :])


class _Connection(BaseProtocol):
    """A connection that answers one request at a time."""

    __slots__ = ("_answer", "_begun", "_message", "_payload", "idle_since_s", "kept")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        parser = HttpResponseParser(
            self, loop, ANSWER_BYTES_MAX, read_until_eof=True, auto_decompress=False
        )
        super().__init__(loop, parser)
        self._answer: asyncio.Future[Answer] | None = None
        self._begun = False
        """Whether the parser has some of the answer."""
        self._message: RawResponseMessage | None = None
        self._payload: StreamReader | None = None
        self.idle_since_s = 0.0
        self.kept = False
        """Whether it may be asked once more."""

    @property
    def usable(self) -> bool:
        """Whether it is kept and the peer has not hung up, as far as is known."""
        transport = self.transport
        return self.kept and transport is not None and not transport.is_closing()

    def send(self, request: bytes) -> asyncio.Future[Answer]:
        """Ask. The future raises OSError."""
        self.kept = False
        answer = self._answer = self._loop.create_future()
        if self.transport is None:
            self.fail(ConnectionResetError("the connection was closed"))
        else:
            self.transport.write(request)
        return answer

    def data_received(self, data: bytes) -> None:
        """Some of an answer, mostly all of it."""
        found = None if self._begun else plain(data)
        if self._answer is None:
            self.fail(ConnectionError("nobody has asked"))
        elif found is not None:
            self._tell(found, again=True)
        else:
            self._begun = True
            self._parse(data)

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        try:
            messages, upgraded, _ = self._parser.feed_data(data)
        except HttpProcessingError as error:
            self.fail(ConnectionError(f"not HTTP: {error.message}"))
            return
        for message, payload in messages:
            if message.code < CONTINUING and not upgraded:
                continue
            if self._message is not None or upgraded:
                self.fail(ConnectionError("an answer that nobody has asked for"))
                return
            self._message, self._payload = message, payload
        body = self._payload
        if body is not None:
            if body.total_bytes > ANSWER_BYTES_MAX:
                self.pause_reading()
            elif body.exception() is not None:
                self.fail(ConnectionError("a body that is not HTTP"))
            elif body.is_eof():
                self._end(again=not self._message.should_close)  # type: ignore[union-attr]  # set with it

    def pause_reading(self) -> None:
        """More has come than anybody is to hold."""
        self.fail(ConnectionError(f"the answer is over {ANSWER_BYTES_MAX} bytes"))

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  as inherited
        """Nothing was paused."""

    def connection_lost(self, exc: BaseException | None) -> None:
        """The peer has hung up: the end of an answer that says no length, else of our patience."""
        super().connection_lost(exc)
        self.kept = False
        if self._payload is not None and exc is None and self._parser is not None:
            try:
                self._parser.feed_eof()
            except HttpProcessingError as error:
                exc = ConnectionError(f"an answer broken off: {error.message}")
            else:
                self._end(again=False)
        self.fail(exc or ConnectionResetError("the connection was closed without an answer"))

    def _end(self, *, again: bool) -> None:
        """The parser has come to the end of the answer."""
        message, payload = self._message, self._payload
        self._begun, self._message, self._payload = False, None, None
        assert message is not None
        assert payload is not None
        self._tell(Answer(message.code, message.headers, payload.read_nowait(-1)), again=again)

    def _tell(self, found: Answer, *, again: bool) -> None:
        answer, self._answer = self._answer, None
        self.kept = again
        if answer is not None and not answer.done():
            answer.set_result(found)

    def late(self) -> None:
        """Whoever waits for the answer has no time any more."""
        self.fail(TimeoutError())

    def fail(self, error: BaseException) -> None:
        """Hang up; whoever waits for the answer is told why. Idempotent."""
        answer = self._answer
        self._answer = self._message = self._payload = None
        self.kept = False
        if self.transport is not None:
            self.transport.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)


class Pool:
    """The connections to one peer: at most so many, the latest used first."""

    def __init__(self, url: str, connections_max: int) -> None:
        """`url`: `http://host:port`. Nothing is connected yet."""
        parts = urlsplit(url)
        self.host = parts.netloc
        self._address = parts.hostname or "", parts.port or 80
        self._most = connections_max
        self._taken = 0
        self._kept: list[_Connection] = []
        self._waiting: deque[asyncio.Future[None]] = deque()
        """As long as the callers are many: each leaves at its deadline."""

    async def exchange(self, request: bytes, left_s: float, connect_s: float) -> Answer:
        """Send `request`, which is whole, and wait for the answer to its end.

        Raises: UnreachableError (nothing was sent); TimeoutError after `left_s`; OSError.
        """
        now_s = clock.monotonic_s()
        until_s = now_s + left_s
        if self._taken < self._most:
            self._taken += 1
        else:
            await self._turn(left_s)
            now_s = clock.monotonic_s()
        connection = None
        try:
            connection = self._another(now_s - KEPT_S)
            if connection is None:
                connection = await self._connect(until_s - now_s, connect_s)
                now_s = clock.monotonic_s()
            answer = connection.send(request)
            timer = asyncio.get_running_loop().call_later(until_s - now_s, connection.late)
            try:
                return await answer
            finally:
                timer.cancel()
        finally:
            self._leave(connection)

    def _another(self, oldest_s: float) -> _Connection | None:
        while self._kept:
            connection = self._kept.pop()
            if connection.usable and connection.idle_since_s > oldest_s:
                return connection
            connection.fail(ConnectionAbortedError())
        return None

    async def _connect(self, left_s: float, connect_s: float) -> _Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(left_s, connect_s)):
                _, made = await loop.create_connection(lambda: _Connection(loop), *self._address)
        except TimeoutError:
            if left_s < connect_s:
                raise
            raise UnreachableError(f"not within {connect_s:g} s") from None
        except OSError as error:
            raise UnreachableError(str(error)) from None
        return made

    async def _turn(self, left_s: float) -> None:
        """Wait for one of the connections. Raises: TimeoutError."""
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            async with asyncio.timeout(left_s):
                await turn
        except (TimeoutError, asyncio.CancelledError):
            if turn.done() and not turn.cancelled():
                self._pass_on()
            raise

    def _leave(self, connection: _Connection | None) -> None:
        if connection is not None:
            if connection.kept and self._most:
                connection.idle_since_s = clock.monotonic_s()
                self._kept.append(connection)
            else:
                connection.fail(ConnectionAbortedError())
        self._pass_on()

    def _pass_on(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1

    def close(self) -> None:
        """Hang up what nobody uses; what is in use is not kept. Idempotent."""
        self._most = 0
        while self._kept:
            self._kept.pop().fail(ConnectionAbortedError())
