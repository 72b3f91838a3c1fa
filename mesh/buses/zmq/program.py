"""The broker as a program of its own: from argv to exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from mesh import notify, telemetry
from mesh.buses.zmq import keys as trust
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


def main(directory: str, sockets: str, keys: str | None) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        directory: where the log lies.
        sockets: where the sockets are bound.
        keys: the file that says whom to believe; None: whoever can reach the sockets.

    Raises: SystemExit: 78 when the configuration or a path will not do, 1 when the log failed.
    """
    telemetry.setup_logging("bus")
    os.umask(0o077)
    sys.setswitchinterval(SWITCH_S)
    try:
        known = None if keys is None else trust.read(Path(keys))
        if known is None:
            _log.warning("no keys were given: whoever can reach the sockets is believed")
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            log = Log(Path(directory))
            runner.run(_serve(Broker(log, Path(sockets), keys=known), log.path))
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


async def _serve(broker: Broker, file: Path) -> None:
    loop = asyncio.get_running_loop()
    broker.start()
    stop = loop.create_future()

    def stopped() -> None:
        if not stop.done():
            stop.set_result(None)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopped)
    watchdog = loop.create_task(_beat(broker))
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
            kept = set_aside(file)
            _log.critical("the damaged log is kept as %s; the next start makes a new one", kept)
        broker.broken.result()


async def _beat(broker: Broker) -> None:
    """Tell the supervisor that the loop turns, and what is wrong as soon as it changes."""
    said = ""
    while True:
        notify.beat()
        text = "; ".join(broker.complaints)
        if text != said:
            notify.status(text)
            said = text
        await asyncio.sleep(notify.BEAT_S)
