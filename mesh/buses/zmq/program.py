"""The broker as a program of its own: from argv to exit code."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mesh import notify, snapshot, telemetry
from mesh.buses.zmq import keys as trust
from mesh.buses.zmq.broker import Broker
from mesh.buses.zmq.door import Door
from mesh.buses.zmq.hosted import Hosted
from mesh.buses.zmq.hosting import Host
from mesh.buses.zmq.log import Log
from mesh.buses.zmq.logfile import DAMAGED, set_aside
from mesh.errors import DatabaseDamaged, InvalidInput, LogBroken, MeshError, SchemaMismatch

EXIT_FAILED = 1
EXIT_CONFIG = 78
"""EX_CONFIG of sysexits.h: starting again will not help."""

if TYPE_CHECKING:
    from mesh.buses.zmq.keys import Keys

GUESTS = "MESH_GUESTS"
"""Names of the programs that tell and hear events over HTTP, with spaces between them."""

LISTEN_FD = 3
"""The first descriptor handed over by LISTEN_FDS (sd_listen_fds(3))."""

SWEEP_S = 600.0

SWITCH_S = 0.0001
"""The disk thread gets the interpreter lock this soon; at the default of 5 ms it would wait longer
for the lock than for the disk."""

YOUNG_MAX = 10_000
"""Objects made and not yet gone until the collector looks for cycles. Hardly any are made here, and a look
at all that stands holds up every event for tens of milliseconds."""

_log = telemetry.logger("bus")


def main(directory: str, sockets: str, keys: str | None) -> None:
    """Run until SIGTERM or SIGINT.

    Args:
        directory: where the log lies.
        sockets: where the sockets are bound.
        keys: the file that says whom to believe; None: whoever can reach the sockets.

    Raises: SystemExit: 78 when the configuration, a path or `hosted.db` will not do, 1 when the
        log failed, which is made anew.
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
            runner.run(_serve(Broker(log, Path(sockets), keys=known), log, known))
    except (InvalidInput, SchemaMismatch) as error:
        _log.critical("cannot start: %s", error, extra=telemetry.facts(hint=error.hint))
        sys.exit(EXIT_CONFIG)
    except DatabaseDamaged as error:
        hint = snapshot.way_back(Path(directory).absolute().parent, error.hint)
        _log.critical("cannot start: %s", error, extra=telemetry.facts(hint=hint))
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


async def _serve(broker: Broker, log: Log, keys: Keys | None) -> None:
    broker.start()
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(broker.close)
        host = await _open_door(broker, log, keys, stack)
        await _until_stopped(broker, host)
    if broker.broken.done():
        error = broker.broken.exception()
        if isinstance(error, LogBroken) and error.code == DAMAGED:
            kept = set_aside(log.path)
            _log.critical("the damaged log is kept as %s; the next start makes a new one", kept)
        broker.broken.result()


async def _open_door(
    broker: Broker, log: Log, keys: Keys | None, stack: contextlib.AsyncExitStack
) -> Host | None:
    """Serve programs that have no outbox, if we were given a port and everybody's keys."""
    handed = os.environ.get("LISTEN_FDS") == "1" and os.environ.get("LISTEN_PID") == str(
        os.getpid()
    )
    if keys is None or not handed:
        return None
    hosted = Hosted(log.path.parent)
    stack.callback(hosted.close)
    host = Host(broker, log, hosted)
    guests = frozenset(os.environ.get(GUESTS, "").split())
    door = Door(broker, host, hosted, keys.signer, guests)
    runner = await door.serve(socket.socket(fileno=LISTEN_FD))
    stack.push_async_callback(runner.cleanup)
    stack.push_async_callback(host.close)  # first: cleanup waits for those who wait for news
    return host


async def _until_stopped(broker: Broker, host: Host | None) -> None:
    """Serve until asked to stop, or until the log cannot go on."""
    loop = asyncio.get_running_loop()
    stop = loop.create_future()

    def stopped() -> None:
        if not stop.done():
            stop.set_result(None)

    for each in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(each, stopped)
    upkeep = [loop.create_task(_beat(broker, host)), loop.create_task(_sweep(host))]
    gc.collect()
    gc.freeze()  # what stands now stands to the end
    gc.set_threshold(YOUNG_MAX)
    notify.ready()
    try:
        await asyncio.wait({stop, broker.broken}, return_when=asyncio.FIRST_COMPLETED)
        notify.stopping()
    finally:
        for task in upkeep:
            task.cancel()


async def _beat(broker: Broker, host: Host | None) -> None:
    """Tell the supervisor that the loop turns, and what is wrong as soon as it changes."""
    said = ""
    while True:
        notify.beat()
        text = "; ".join([*broker.complaints, *(host.fences if host is not None else ())])
        if text != said:
            notify.status(text)
            said = text
        await asyncio.sleep(notify.BEAT_S)


async def _sweep(host: Host | None) -> None:
    while host is not None:
        await asyncio.sleep(SWEEP_S)
        try:
            await host.sweep()
        except MeshError as error:
            _log.warning("old events could not be forgotten: %s", error)
