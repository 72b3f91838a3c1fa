"""The broker as a program of its own: from argv to exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from mesh import notify, telemetry
from mesh.buses.zmq.broker import Broker
from mesh.buses.zmq.log import Log
from mesh.buses.zmq.logfile import DAMAGED, set_aside
from mesh.errors import InvalidInput, LogBroken, MeshError, SchemaMismatch

EXIT_FAILED = 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: starting again will not help."""

SWITCH_S = 0.0001
"""The disk thread gets the interpreter lock this soon; at the default of 5 ms it would wait longer
for the lock than for the disk."""

_log = telemetry.logger("bus")


def main(directory: str, sockets: str) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        directory: where the log lies.
        sockets: where the sockets are bound.

    Raises: SystemExit: 78 when the configuration or a path will not do, 1 when the log failed.
    """
    telemetry.setup_logging("bus")
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(Log(Path(directory)), Path(sockets)))
    except (InvalidInput, SchemaMismatch) as error:
        _log.critical("cannot start: %s", error, extra=telemetry.facts(hint=error.hint))
        sys.exit(EXIT_CONFIG)
    except MeshError as error:
        _log.critical("stopped: %s", error, extra=telemetry.facts(code=error.code))
        sys.exit(EXIT_FAILED)


def _loop_factory() -> type[asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415  a gain where it is installed, never a need
    except ImportError:
        return None
    return uvloop.Loop


async def _serve(log: Log, sockets: Path) -> None:
    loop = asyncio.get_running_loop()
    broker = Broker(log, sockets)
    broker.start()
    stop = loop.create_future()

    def stopped() -> None:
        if not stop.done():
            stop.set_result(None)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopped)
    watchdog = loop.create_task(_beat())
    notify.ready()
    try:
        await asyncio.wait({stop, broker.broken}, return_when=asyncio.FIRST_COMPLETED)
        notify.stopping()
    finally:
        watchdog.cancel()
        await broker.close()
    if broker.broken.done():
        error = broker.broken.exception()
        if isinstance(error, LogBroken) and error.code == DAMAGED:
            kept = set_aside(log.path)
            _log.critical("the damaged log is kept as %s; the next start makes a new one", kept)
        broker.broken.result()


async def _beat() -> None:
    while True:
        notify.beat()
        await asyncio.sleep(notify.BEAT_S)
