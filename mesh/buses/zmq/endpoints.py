"""Where the bus's sockets lie and how they are set: the same on both sides."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import zmq

from mesh.buses.zmq.protocol.timing import CREDIT_MSGS, FRAME_BYTES_MAX
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from pathlib import Path

INGEST = "bus.ingest"
FEED = "bus.feed"
FETCH = "bus.fetch"

PATH_BYTES_MAX = 107
"""Longest path of a unix socket on Linux: `sun_path` is 108 with its NUL."""

FEED_HWM = 128
"""Messages of at most 64 KiB held for a subscriber that does not read; then they are dropped."""

RECONNECT_MS = 20
RECONNECT_MAX_MS = 100
"""A bus that comes back is to be found within 0.3 s."""

HEARTBEAT_MS = 5000
HEARTBEAT_TIMEOUT_MS = 10000
"""ZeroMQ's own, below the protocol: closes a connection whose other end is frozen."""

_PRIVATE_MODE = 0o700


def endpoint(directory: Path, name: str) -> str:
    """The socket's address. Raises: InvalidInput when its path is too long for the system."""
    path = directory / name
    length = len(os.fsencode(path))
    if length > PATH_BYTES_MAX:
        raise InvalidInput(
            f"the socket path {path} has {length} bytes; the system takes {PATH_BYTES_MAX}",
            hint="use a shorter directory for sockets",
        )
    return f"ipc://{path}"


def make_private(directory: Path) -> None:
    """Make the directory of the sockets, or check that nobody but us can reach into it.

    Raises: InvalidInput.
    """
    try:
        directory.mkdir(mode=_PRIVATE_MODE, parents=True, exist_ok=True)
        found = directory.lstat()
    except OSError as error:
        raise InvalidInput(f"no directory for sockets at {directory}: {error.strerror}") from error
    wrong = ""
    if not stat.S_ISDIR(found.st_mode):
        wrong = "is a symbolic link"
    elif found.st_uid != os.geteuid():
        wrong = f"belongs to uid {found.st_uid}"
    elif stat.S_IMODE(found.st_mode) != _PRIVATE_MODE:
        wrong = f"has mode {stat.S_IMODE(found.st_mode):04o}, not 0700"
    if wrong:
        raise InvalidInput(
            f"the directory for sockets {directory} {wrong}",
            hint=f"remove it, or: chmod 700 {directory}",
        )


def open_socket(context: zmq.Context[zmq.Socket[bytes]], kind: zmq.SocketType) -> zmq.Socket[bytes]:
    """A socket with the options of its kind, neither bound nor connected yet."""
    socket = context.socket(kind)
    on_feed = kind in {zmq.XPUB, zmq.SUB}
    socket.LINGER = 0
    socket.MAXMSGSIZE = FRAME_BYTES_MAX
    socket.SNDHWM = socket.RCVHWM = FEED_HWM if on_feed else 2 * CREDIT_MSGS
    socket.RECONNECT_IVL = RECONNECT_MS
    socket.RECONNECT_IVL_MAX = RECONNECT_MAX_MS
    socket.HEARTBEAT_IVL = HEARTBEAT_MS
    socket.HEARTBEAT_TIMEOUT = HEARTBEAT_TIMEOUT_MS
    if kind == zmq.ROUTER:
        socket.ROUTER_MANDATORY = 1
    elif kind == zmq.DEALER:
        socket.IMMEDIATE = 1
    elif kind == zmq.XPUB:
        # Every new subscriber shows itself, so that it can be given a heartbeat at once.
        socket.XPUB_VERBOSE = 1
    return socket
