"""Requests at a steady rate beside whatever a test does, and the fate of each of them.

A request leaves when it is due, unless too many of those before it have no answer yet, and its
latency counts from that moment, so that an outage is seen by everybody who would have met it.
Nothing is ever sent again: what a caller would have to bear is what is counted.
"""

from __future__ import annotations

import asyncio
import errno
import statistics
import threading
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

TIMEOUT_S = 30.0
"""A request without an answer after this long has failed."""

MOST = 16
"""Requests out at a time: no more than a quarter of a service's places, so that it sheds none of them."""


@dataclass(frozen=True)
class Request:
    """One request to be sent."""

    method: str
    url: str
    body: bytes | None = None
    headers: dict[str, str] | None = None


@dataclass(frozen=True)
class Sent:
    """One request that was sent. Times are monotonic seconds.

    `fate` is the status of its answer, `refused`, or the name of what went wrong.
    """

    due_s: float
    done_s: float
    fate: str

    @property
    def good(self) -> bool:
        """Answered with success."""
        return self.fate.startswith("2")

    @property
    def took_ms(self) -> float:
        """From when it was due."""
        return (self.done_s - self.due_s) * 1e3


class Load:
    """`rate` requests a second from when the `with` is entered until it is left.

    Args:
        make: the n-th request.
        fresh: a new connection for each; else they are kept alive and used again.
        most: at a time; where as many are out, the next waits for one of them, and is late.
            A machine that stands still for seconds heaps no more than that upon a service.
    """

    def __init__(
        self, make: Callable[[int], Request], *, rate: float, fresh: bool, most: int = MOST
    ) -> None:
        """Nothing is sent yet."""
        self.sent: list[Sent] = []
        self._make = make
        self._rate = rate
        self._fresh = fresh
        self._most = most
        self._ended = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Send no more, and wait for the answers still out."""
        self._ended.set()
        self._thread.join()

    def fates(self) -> Counter[str]:
        """How many met which fate."""
        return Counter(one.fate for one in self.sent)

    def failures(self) -> Counter[str]:
        """The same without those that were answered well."""
        return Counter(one.fate for one in self.sent if not one.good)

    def between(self, begun_s: float, ended_s: float) -> list[Sent]:
        """Those that were due in this time."""
        return [one for one in self.sent if begun_s <= one.due_s < ended_s]

    async def _run(self) -> None:
        connector = aiohttp.TCPConnector(limit=0, force_close=self._fresh)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            # aiohttp would quietly send GET, PUT and DELETE once more.
            session._retry_connection = False
            begun_s = time.monotonic()
            out: set[asyncio.Task[None]] = set()
            number = 0
            while not self._ended.is_set():
                due_s = begun_s + number / self._rate
                await asyncio.sleep(max(0.0, due_s - time.monotonic()))
                if len(out) >= self._most:
                    await asyncio.wait(out, return_when=asyncio.FIRST_COMPLETED)
                    continue
                task = asyncio.create_task(self._send(session, number, due_s))
                out.add(task)
                task.add_done_callback(out.discard)
                number += 1
            await asyncio.gather(*out)

    async def _send(self, session: aiohttp.ClientSession, number: int, due_s: float) -> None:
        request = self._make(number)
        try:
            async with session.request(
                request.method, request.url, data=request.body, headers=request.headers
            ) as response:
                await response.read()
                fate = str(response.status)
        except aiohttp.ClientConnectorError as error:
            refused = error.os_error.errno == errno.ECONNREFUSED
            fate = "refused" if refused else type(error).__name__
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            fate = type(error).__name__
        self.sent.append(Sent(due_s, time.monotonic(), fate))


def quantiles_ms(values: list[float]) -> str:
    """`p50 1.0  p99 2.0  max 3.0 ms  (n 4)`; of fewer than 100 values the p99 is the largest."""
    if not values:
        return "none"
    p99 = statistics.quantiles(values, n=100)[98] if len(values) >= 100 else max(values)
    return (
        f"p50 {statistics.median(values):.1f}  p99 {p99:.1f}  max {max(values):.1f} ms"
        f"  (n {len(values)})"
    )
