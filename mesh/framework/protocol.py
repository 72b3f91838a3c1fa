"""HTTP/1.1 with one client: bytes become requests, one at a time, and replies become bytes.

Of HTTP what services speak: a body has a length or comes in chunks and is read by whoever wants it; an
answer is written whole. What is not plain (`heads`) is read by aiohttp's parser.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError

from mesh import clock, telemetry
from mesh.errors import InvalidInput
from mesh.framework import heads
from mesh.framework.heads import Heads
from mesh.framework.problems import problem
from mesh.framework.request import Request

if TYPE_CHECKING:
    from aiohttp.streams import StreamReader

    from mesh.framework.app import App
    from mesh.framework.connections import Connections

UNREAD_S = 10.0
"""So long the rest of a body that nobody wants is taken: hung up on while it sends, a client would
lose the answer that says so."""

WRITE_S = 10.0
"""A client that takes nothing of its answer for this long is not waited for."""

GO_ON = b"HTTP/1.1 100 Continue\r\n\r\n"

UNREADABLE = "this is no HTTP request that can be read"

log = telemetry.logger("framework.protocol")


class Connection(BaseProtocol):
    """One connection, and one request of it at a time.

    What comes while nobody may wait is refused before it is even parsed; what comes behind a
    request waits as bytes for its answer.
    """

    __slots__ = (
        "_all",
        "_app",
        "_behind",
        "_counted",
        "_ends",
        "_expected",
        "_fed",
        "_heads",
        "_last",
        "_request",
        "_stuck",
        "_whole",
        "address",
        "idle_since_s",
        "owes",
        "task",
    )

    def __init__(self, everybody: Connections, app: App) -> None:
        """Nobody has come yet."""
        loop = asyncio.get_running_loop()
        super().__init__(loop, heads.parser(self, loop))
        self._all = everybody
        self._app = app
        self._behind = b""
        self._counted = False
        self._ends = False
        self._expected = False
        self._fed = False
        self._heads = Heads(self, loop)
        self._last = False
        self._request: Request | None = None
        self._stuck: asyncio.TimerHandle | None = None
        self._whole = False
        """Whether the request that is being answered is here to the end of its body."""
        self.idle_since_s: float | None = None
        self.owes = False
        """As `Connections` has it."""
        self.address = ""
        self.task: asyncio.Task[None] | None = None
        """That answers the request whose head has come."""

    @property
    def asked(self) -> bool:
        """Whether the head of a request has come, and its answer has not gone."""
        return self._request is not None

    @property
    def ended(self) -> bool:
        """Whether nothing more will be answered."""
        return self._ends and self._request is None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has come."""
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if peer else ""
        self._counted = self._all.made(self)
        super().connection_made(transport)
        if not self._counted:
            self.drop()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Somebody has gone. What was begun for them is brought to its end."""
        if self._counted:
            self._all.lost(self)
        if self._expected:
            self._no_longer_expected()
        self.resumed()
        super().connection_lost(exc)
        self._parser = None
        if self._request is not None and not self._whole:
            self._request.content.set_exception(ConnectionResetError("the client has gone"))

    def eof_received(self) -> bool:
        """The client sends no more; what it has asked for is answered before it is hung up on."""
        self._last = True
        if self._request is not None and not self._whole:
            self._request.content.set_exception(ConnectionResetError("the client sends no more"))
        return self.asked

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, mostly all of it."""
        if self._ends and self._request is None:
            return
        if self._whole:
            self._behind += data
            self._pause_reading_for_buffer()
            return
        if self._fed:
            self._heads.missing -= len(data)
            self._feed(data)
        else:
            self._begun(data)

    def _begun(self, data: bytes) -> None:
        """The first bytes of a request, mostly all of it."""
        if self._heads.clear and self._refused(data):
            self._rests()
            return
        self.idle_since_s = None
        request = self._heads.at_once(data, self.address)
        if request is not None:
            self._body_came()
            self._expect()
            self._begin(request)
            return
        if b"\r\n\r\n" in data.lstrip():  # a head that may never come whole is not waited for
            self._expect()
        self._fed = True
        self._feed(data)
        if not self._whole:
            self._all.owes(self)

    def _refused(self, data: bytes) -> bool:
        """Whether that was one request, and is answered since there is no time for it."""
        if self._app.gate.admission.roomy or self._paused or self.transport is None:
            return False
        refusal = self._app.refusal(data)
        if refusal is None:
            return False
        self.transport.write(refusal)
        return True

    def _feed(self, data: bytes) -> None:
        if self._parser is None:
            return
        try:
            messages, _, _ = self._parser.feed_data(data)
            for head, content in messages:  # one at most, as the parser was told
                self._parsed(Request.parsed(head, content, self.address))
        except HttpProcessingError as error:
            self._unreadable(error)
        except Exception:  # of the parser's: nothing is known of what follows
            log.exception("what was sent could not be read")
            self.drop()

    def _parsed(self, request: Request) -> None:
        """A head has come; the body may still be on its way."""
        if "Expect" in request.headers and self._awaited(request) and self.transport is not None:
            self.transport.write(GO_ON)
        if request.content.is_eof():
            self._whole = True
            if self.owes:
                self._all.settled(self)
        else:
            request.content.on_eof(self._body_came)
        self._begin(request)

    def _begin(self, request: Request) -> None:
        self._request = request
        self.task = self._loop.create_task(self._serve(request))

    @staticmethod
    def _awaited(request: Request) -> bool:
        """Whether the client sends the body once it is told to (RFC 9110, 10.1.1); curl does."""
        wish = request.headers["Expect"].lower()
        return wish == "100-continue" and not request.old and not request.content.is_eof()

    def _expect(self) -> None:
        self._expected = True
        self._app.gate.admission.coming += 1

    def _no_longer_expected(self) -> None:
        self._expected = False
        self._app.gate.admission.coming -= 1

    def _body_came(self) -> None:
        """Nothing is owed any more."""
        self._whole = True
        if self.owes:
            self._all.settled(self)

    def _rests(self) -> None:
        """Nothing is asked any more."""
        self.idle_since_s = clock.monotonic_s()
        if self.owes:
            self._all.settled(self)

    async def _serve(self, request: Request) -> None:
        if self._expected:
            self._no_longer_expected()
        again = False
        try:
            reply = await self._app.handle(request)
            if self._ends or not request.keep_alive:
                reply.force_close()
            self._write(reply.written(request))
            if self._paused:
                await self._drain_helper()
            if not self._whole:
                await _skip(request.content)
            again = reply.keep_alive and not self._ends
        except (ConnectionError, TimeoutError, InvalidInput):
            pass  # who asked has gone, or goes on sending what nobody can use
        except Exception:
            log.exception("an answer could not be written")
        finally:
            self._request = self.task = None
            self._whole = False
            if again:
                self._next()
            else:
                self._hang_up()

    def _write(self, data: bytes) -> None:
        """Raises: ConnectionError."""
        if self.transport is None or self.transport.is_closing():
            raise ConnectionResetError("the client has gone")
        self.transport.write(data)

    def _next(self) -> None:
        """The next request may come, or has come already."""
        if self._parser is None:
            return
        behind, self._behind = self._behind, b""
        if self._fed:
            self._parser.message_consumed()
            self._fed = not self._heads.at_the_end()
        if self._fed:
            self._feed(behind)
            self._fed = self._request is not None or bool(behind)
        elif behind:
            self._begun(behind)
        if self._ends:
            return
        if self._last and self._request is None:
            self.close()
        elif self._request is None and not self._fed:
            self._rests()
        elif not self._whole:
            self._all.owes(self)
        if self._buffer_paused and not self._whole:
            self._resume_reading_for_buffer()

    def _unreadable(self, error: HttpProcessingError) -> None:
        """Answer what is no request, as every refusal is answered; then hang up."""
        self._ends = True
        self._parser = None
        refused = InvalidInput(UNREADABLE, code="unreadable")
        if self._request is not None:  # its body is no body
            self._request.content.set_exception(refused)
            return
        trace = telemetry.new_trace()
        facts = telemetry.facts(trace_id=trace.trace_id, why=type(error).__name__)
        log.warning("a request could not be read", extra=facts)
        answer = problem(refused, trace.trace_id, "")
        answer.headers["traceparent"] = trace.traceparent
        answer.force_close()
        if self.transport is not None:
            self.transport.write(answer.written())
        self._hang_up()

    def _hang_up(self) -> None:
        """Write no more, and let what still comes come to nothing until the client hangs up too.

        Cut off while it sends, it could lose the answer (RFC 9112, 9.6). Swept like one that owes.
        """
        self._ends = True
        if self.transport is None or self.transport.is_closing():
            return
        if self._last:
            self.transport.close()
            return
        self.transport.write_eof()
        self._all.owes(self)
        if self._buffer_paused:
            self._resume_reading_for_buffer()

    def resume_reading(self, resume_parser: bool = True) -> None:  # noqa: FBT001, FBT002  as inherited
        """There is room for more of a body. Called at its end too, where mostly nothing was paused."""
        if self._reading_paused:
            super().resume_reading(resume_parser)

    def close(self) -> None:
        """Hang up: at once, or after the answer that is being made."""
        self._ends = True
        if self._request is None and self.transport is not None:
            self.transport.close()

    def pause_writing(self) -> None:
        """The client does not read what we write."""
        super().pause_writing()
        self._stuck = asyncio.get_running_loop().call_later(WRITE_S, self.drop)

    def resume_writing(self) -> None:
        """It does again."""
        self.resumed()
        super().resume_writing()

    def resumed(self) -> None:
        """Nobody waits for this client to read."""
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def drop(self) -> None:
        """End it without a word."""
        if self.transport is not None:
            self.transport.abort()


async def _skip(content: StreamReader) -> None:
    """Let the rest of a body come to nothing. Raises: TimeoutError; what reading raises."""
    async with asyncio.timeout(UNREAD_S):
        while not content.is_eof():
            await content.readany()
