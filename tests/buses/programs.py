"""A publisher and a consumer as programs of their own, to be killed at any moment.

python -m tests.buses.programs publisher URL DATABASE RATE
python -m tests.buses.programs consumer URL DATABASE
"""

from __future__ import annotations

import asyncio
import sys
import threading
from pathlib import Path

from mesh import bus
from tests.buses.support import FileInbox, FileOutbox


async def publish(url: str, database: Path, rate: float) -> None:
    """Tell numbered events until killed; the next life goes on with the next number."""
    outbox = FileOutbox(database, "order")
    connection = bus.connect(url, name="order")
    await connection.start()
    connection.relay(outbox)
    stop = _stopped()
    while not stop.is_set():
        outbox.tell(b"%d" % (outbox.head().seq + 1))
        connection.wake()
        await asyncio.sleep(1 / rate)
    while outbox.acked.seq < outbox.head().seq:
        await asyncio.sleep(0.01)
    await connection.close()


async def consume(url: str, database: Path) -> None:
    """Apply until killed."""
    connection = bus.connect(url, name="product")
    await connection.start()
    connection.subscribe(["order"], FileInbox(database))
    while not _stopped().is_set():
        await asyncio.sleep(3600)


_end = threading.Event()


def _stopped() -> threading.Event:
    """Set when standard input ends."""
    if not any(thread.name == "stdin" for thread in threading.enumerate()):
        threading.Thread(target=_wait, name="stdin", daemon=True).start()
    return _end


def _wait() -> None:
    sys.stdin.read()
    _end.set()


if __name__ == "__main__":
    role, url_, database_, *rest = sys.argv[1:]
    if role == "publisher":
        asyncio.run(publish(url_, Path(database_), float(rest[0])))
    else:
        asyncio.run(consume(url_, Path(database_)))
