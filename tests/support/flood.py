"""Requests at a high steady rate from a process of its own, cheap enough to share two cores.

An open loop over bare sockets: a request is due when it is due, whatever became of those before
it, and its latency counts from then (no coordinated omission). It waits for a free connection
where all are busy; that wait counts too. What does not count, but is told, is how late this
process itself was on shared cores: to see that a request was due, and to take an answer that the
kernel had. Run as a program it reads its `Plan` from standard input and writes what became of
each request to standard output.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from pathlib import Path

from tests.support.load import Sent

LATE_S = 10.0
"""After the last request was due, answers are waited for this long; then they are lost."""

READ_BYTES = 65536

SO_TIMESTAMPNS = 35
"""Of Linux; Python has no name for it."""

STAMP = struct.Struct("@qq")
"""Seconds and nanoseconds of wall time at which the kernel had the answer."""


@dataclass(frozen=True)
class Plan:
    """What to send: `rate` a second for `seconds`, over at most `connections` at a time.

    `head` and `body` make a request; `{n}` in the head becomes the request's number.
    """

    port: int
    head: str
    body: str
    rate: float
    seconds: float
    connections: int = 256


@dataclass(frozen=True)
class Told:
    """What became of them, in the order of the answers, and what the sending cost."""

    sent: list[Sent]
    cpu_s: float
    marked: int
    """Refused with `Mesh-Overloaded: 1`."""
    lags_ms: list[float]
    """How late the sender itself was with each that was answered; no part of their latency."""

    def fates(self) -> Counter[str]:
        """How many met which fate."""
        return Counter(one.fate for one in self.sent)


class Flood:
    """A plan that is carried out beside the test, from `begin` to `end`."""

    def __init__(self, plan: Plan) -> None:
        """Begins at once."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.flood"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        self._seconds = plan.seconds
        self._until_s = time.monotonic() + plan.seconds
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(dataclasses.asdict(plan)).encode())
        self._process.stdin.close()
        self._process.stdin = None

    @property
    def running(self) -> bool:
        """Whether requests are still to be sent or answered."""
        return time.monotonic() < self._until_s

    def end(self) -> Told:
        """Wait until all is sent and answered."""
        out, _ = self._process.communicate(timeout=self._seconds + LATE_S + 30)
        assert self._process.returncode == 0
        told = json.loads(out)
        return Told(
            [Sent(*row) for row in told["sent"]], told["cpu_s"], told["marked"], told["lags_ms"]
        )


class _Connection:
    def __init__(self, port: int, epoll: select.epoll) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setblocking(False)
        self.due_s = 0.0
        self.late_s = 0.0
        self.found = b""
        epoll.register(self.socket.fileno(), select.EPOLLIN)


class _Sender:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.head = plan.head.encode().split(b"{n}")
        self.body = plan.body.encode()
        self.epoll = select.epoll()
        self.all: dict[int, _Connection] = {}
        self.free: list[_Connection] = []
        self.waiting: deque[tuple[int, float, float]] = deque()
        self.sent: list[tuple[float, float, str]] = []
        self.lags_ms: list[float] = []
        self.marked = 0

    def run(self) -> None:
        plan, number = self.plan, 0
        begun_s = time.monotonic()
        count = int(plan.rate * plan.seconds)
        while number < count or self.waiting or len(self.free) < len(self.all):
            now_s = time.monotonic()
            if now_s > begun_s + plan.seconds + LATE_S:
                break
            while number < count and (due_s := begun_s + number / plan.rate) <= now_s:
                self.waiting.append((number, due_s, now_s - due_s))
                number += 1
            while self.waiting and self._can_send():
                self._send(*self.waiting.popleft())
            next_s = begun_s + number / plan.rate if number < count else now_s + 0.05
            for descriptor, _ in self.epoll.poll(max(0.0, next_s - time.monotonic())):
                self._read(self.all[descriptor])
        lost = [one.due_s for one in self.all.values() if one not in self.free]
        self.sent += [(due_s, time.monotonic(), "lost") for due_s in lost]
        self.sent += [(due_s, time.monotonic(), "unsent") for _, due_s, _ in self.waiting]

    def _can_send(self) -> bool:
        if not self.free and len(self.all) < self.plan.connections:
            made = _Connection(self.plan.port, self.epoll)
            self.all[made.socket.fileno()] = made
            self.free.append(made)
        return bool(self.free)

    def _send(self, number: int, due_s: float, late_s: float) -> None:
        one = self.free.pop()
        one.due_s, one.late_s = due_s, late_s
        try:
            one.socket.send(str(number).encode().join(self.head) + self.body)
        except OSError as error:
            self._over(one, type(error).__name__)
            self._drop(one)

    def _read(self, one: _Connection) -> None:
        try:
            came, beside, _, _ = one.socket.recvmsg(READ_BYTES, socket.CMSG_SPACE(STAMP.size))
        except OSError as error:
            came, beside, fate = b"", [], type(error).__name__
        else:
            fate = "closed"
        if not came:
            if one not in self.free:
                self._over(one, fate)
            self._drop(one)
            return
        one.found += came
        end = one.found.find(b"\r\n\r\n")
        if end < 0:
            return
        head = one.found[:end].lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or b"0")
        if len(one.found) < end + 4 + length:
            return
        self.marked += b"mesh-overloaded: 1" in head
        self._over(one, one.found[9:12].decode(), beside)
        one.found = b""
        if b"connection: close" in head:
            self._drop(one)
        else:
            self.free.append(one)

    def _over(
        self, one: _Connection, fate: str, beside: list[tuple[int, int, bytes]] | None = None
    ) -> None:
        lag_s = 0.0
        for _, _, stamp in beside or ():
            seconds, nanoseconds = STAMP.unpack(stamp)
            lag_s = max(0.0, time.time() - seconds - nanoseconds / 1e9)
        now_s = time.monotonic()
        self.lags_ms.append(round((one.late_s + lag_s) * 1e3, 3))
        self.sent.append((one.due_s + one.late_s, now_s - lag_s, fate))

    def _drop(self, one: _Connection) -> None:
        del self.all[one.socket.fileno()]
        with contextlib.suppress(ValueError):
            self.free.remove(one)
        one.socket.close()


def main() -> None:
    """Carry out the plan that is read."""
    sender = _Sender(Plan(**json.load(sys.stdin)))
    sender.run()
    used = os.times()
    told = {
        "sent": sender.sent,
        "cpu_s": used.user + used.system,
        "marked": sender.marked,
        "lags_ms": sender.lags_ms,
    }
    json.dump(told, sys.stdout)


if __name__ == "__main__":
    main()
