"""Clients that stall, and more of them than there are descriptors: the others are served.

At full scale from the command line: `python -m tests.e2e.test_slow_clients SECONDS`.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

import psutil

from tests.support.load import Load, Request, quantiles_ms
from tests.support.running import LAMP, RunningMesh, eventually

if TYPE_CHECKING:
    from types import TracebackType

STALLING = 600
RATE = 20.0

HEADS = (
    b"",  # says nothing
    b"GET /products/x HTTP/1.1\r\nHost: local",  # ends in its head
    (
        b"POST /products HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b'Content-Length: 100\r\n\r\n{"sku"'
    ),  # ends in its body
)


class Stalling:
    """So many connections that stall; each that is closed is made anew, each dribbles on."""

    def __init__(self, port: int, count: int) -> None:
        """They come when the `with` is entered."""
        self.port = port
        self.count = count
        self.made = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Begin; returns once all have been made."""
        self._thread.start()
        eventually(lambda: self.made >= self.count, within_s=60)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """They go."""
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        poll, all_ = select.epoll(), {}
        while not self._ended.is_set():
            while len(all_) < self.count:
                one = socket.create_connection(("127.0.0.1", self.port), timeout=30)
                with contextlib.suppress(OSError):
                    one.send(HEADS[self.made % len(HEADS)])
                one.setblocking(False)
                all_[one.fileno()] = one
                poll.register(one.fileno(), select.EPOLLIN)
                self.made += 1
            for descriptor, _ in poll.poll(0.2):  # answered or closed: either way it comes anew
                all_.pop(descriptor).close()
        for one in all_.values():
            one.close()


def looking(mesh: RunningMesh) -> Load:
    """Good clients: each looks at a product, on a connection of its own."""
    url = f"{mesh.url('product')}/products/{LAMP}"
    return Load(lambda _: Request("GET", url), rate=RATE, fresh=True)


def stalled(mesh: RunningMesh, seconds: float) -> tuple[Load, int]:
    """What good clients met meanwhile, and how many connections stalled in all."""
    port = int(mesh.url("product").rpartition(":")[2])
    with Stalling(port, STALLING) as stalling, looking(mesh) as load:
        time.sleep(seconds)
    return load, stalling.made


def test_good_clients_meet_no_error_while_hundreds_stall(mesh: RunningMesh):
    load, made = stalled(mesh, 4.0)
    assert made >= STALLING
    assert len(load.sent) > 40
    assert load.failures() == {}


def test_service_without_descriptors_recovers_and_does_not_spin(mesh: RunningMesh):
    pid = mesh.services()["product"]["pid"]
    port = int(mesh.url("product").rpartition(":")[2])
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (64, 64))
    held = []
    try:
        for _ in range(200):
            one = socket.socket()
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
            held.append(one)
        time.sleep(0.5)
        before = sum(psutil.Process(pid).cpu_times()[:2])
        time.sleep(2.0)
        used_s = sum(psutil.Process(pid).cpu_times()[:2]) - before
    finally:
        for one in held:
            one.close()
    assert used_s < 1.0
    eventually(lambda: _looks(mesh), within_s=60)
    assert mesh.services()["product"]["pid"] == pid


def _looks(mesh: RunningMesh) -> bool:
    try:
        return mesh.ask("product", "GET", f"/products/{LAMP}", timeout_s=1.0).status == 200
    except OSError:
        return False


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        shop = RunningMesh(Path(folder)).up()
        try:
            with looking(shop) as before:
                time.sleep(5)
            load, made = stalled(shop, float(sys.argv[1]))
            print(
                f"{STALLING} stalling connections ({made} in all) for {sys.argv[1]} s:"
                f" {len(load.sent)} good requests, failed {dict(load.failures())};"
                f" before {quantiles_ms([one.took_ms for one in before.sent])},"
                f" meanwhile {quantiles_ms([one.took_ms for one in load.sent])}"
                f" (load average {os.getloadavg()[0]:.1f})"
            )
        finally:
            shop.down()
