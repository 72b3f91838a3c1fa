"""Closed-loop clients over keep-alive connections: as little work a request as Python allows.

    python benchmarks/driver.py PORT CLIENTS SECONDS < the request

The request on standard input is a whole HTTP/1.1 request in which each `@KEY@` is replaced by a
key of its own for every request. Prints one JSON object: `orders` taken, `rate` a second, `p50_ms`, `p99_ms`, the
`cpu_ms` of this process a request, and `others`, the answers that were no 201, by status.
"""

import asyncio
import collections
import itertools
import json
import os
import resource
import sys
import time

import uvloop

KEY = b"@KEY@"


class Client(asyncio.Protocol):
    """One connection: sends, waits for the whole answer, sends again."""

    def __init__(self, run: "Run") -> None:
        self.run = run
        self.transport: asyncio.WriteTransport | None = None
        self.buffer = b""
        self.begun = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]
        self.send()

    def send(self) -> None:
        self.begun = time.perf_counter()
        self.transport.write(self.run.request())

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        lower = head.lower()
        at = lower.index(b"content-length:") + 15
        end = lower.find(b"\r\n", at)
        if len(body) < int(lower[at : end if end > 0 else None]):
            return
        self.buffer = b""
        now = time.perf_counter()
        self.run.answered(head[9:12], now - self.begun)
        if now < self.run.end:
            self.send()
        else:
            self.transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        self.run.leave()


class Run:
    """All clients, until the time is over."""

    def __init__(self, template: bytes, clients: int, seconds: float) -> None:
        self.parts = template.split(KEY)
        self.numbers = itertools.count()
        self.stem = f"{os.getpid()}-{time.time_ns()}-"
        self.left = clients
        self.done = asyncio.get_running_loop().create_future()
        self.latencies: list[float] = []
        self.others: collections.Counter[str] = collections.Counter()
        self.end = time.perf_counter() + seconds

    def request(self) -> bytes:
        return f"{self.stem}{next(self.numbers)}".encode().join(self.parts)

    def answered(self, status: bytes, seconds: float) -> None:
        if status == b"201":
            self.latencies.append(seconds)
        else:
            self.others[status.decode()] += 1

    def leave(self) -> None:
        self.left -= 1
        if not self.left and not self.done.done():
            self.done.set_result(None)


async def drive(port: int, clients: int, seconds: float, template: bytes) -> dict[str, object]:
    loop = asyncio.get_running_loop()
    before = resource.getrusage(resource.RUSAGE_SELF)
    begun = time.perf_counter()
    run = Run(template, clients, seconds)
    for _ in range(clients):
        await loop.create_connection(lambda: Client(run), "127.0.0.1", port)
    await asyncio.wait_for(run.done, seconds + 30)
    took = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_SELF)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = sorted(run.latencies)
    if not found:
        raise SystemExit(f"no order was taken: {dict(run.others)}")
    return {
        "orders": len(found),
        "rate": len(found) / took,
        "p50_ms": found[len(found) // 2] * 1e3,
        "p99_ms": found[min(len(found) - 1, len(found) * 99 // 100)] * 1e3,
        "cpu_ms": spent / len(found) * 1e3,
        "others": dict(run.others),
    }


if __name__ == "__main__":
    print(
        json.dumps(
            uvloop.run(
                drive(
                    int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.stdin.buffer.read()
                )
            )
        )
    )
