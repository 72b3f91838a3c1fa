"""TELL: the bus's face. A program's connection to the bus is made here and nowhere else."""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, cast
from urllib.parse import urlsplit

from msgspec import Struct

from mesh import buses
from mesh.buses.adoption import NOBODY, Others, adoption, shared, told_again
from mesh.buses.cloudevents import CloudEvent, cloud_event
from mesh.buses.contract import (
    AUDIENCE,
    EVENT_BYTES_MAX,
    NO_HASH,
    ORIGIN,
    Applied,
    Arrived,
    Bus,
    Cursor,
    Epoch,
    Event,
    Follower,
    Inbox,
    Link,
    Outbox,
    OutboxState,
    Position,
    StreamHead,
    Trace,
    chain_hash,
)
from mesh.buses.disorder import Disorder, Disturbance
from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from types import ModuleType

__all__ = [
    "AUDIENCE",
    "EVENT_BYTES_MAX",
    "NOBODY",
    "NO_HASH",
    "ORIGIN",
    "Applied",
    "Arrived",
    "Broker",
    "Bus",
    "CloudEvent",
    "Cursor",
    "Disorder",
    "Disturbance",
    "Epoch",
    "Event",
    "Follower",
    "Inbox",
    "Link",
    "Others",
    "Outbox",
    "OutboxState",
    "Position",
    "StreamHead",
    "Trace",
    "adopt",
    "adoption",
    "chain_hash",
    "cloud_event",
    "connect",
    "guests",
    "link",
    "log_file",
    "modules",
    "program",
    "schemes",
    "serve",
    "shared",
    "states",
    "told_again",
]


class Broker(Struct, frozen=True):
    """The program a bus needs beside its clients: what to call, with what, and where it is then.

    `writes` are folders that it writes to beside the one of its log.
    """

    entry: str
    args: tuple[str, ...]
    client_url: str
    writes: tuple[str, ...] = ()


def schemes() -> list[str]:
    """The URL schemes that have a folder here."""
    return sorted(module.name for module in pkgutil.iter_modules(buses.__path__) if module.ispkg)


def connect(url: str, *, name: str, token: Callable[[], str] | None = None) -> Bus:
    """A connection to the bus that `url` names; nothing happens before its `start`.

    Args:
        url: its scheme chooses the backend; `zmq:///run/dir` has its sockets in that directory.
        name: the program's own: its stream as a producer, its name as a consumer.
        token: makes one for AUDIENCE at each greeting; None: none is shown.

    Raises: InvalidInput (unknown scheme, or not a place the backend can connect to).
    """
    return cast("Bus", _backend(url).connect(url, name, token))


def program(url: str, *, directory: Path, sockets: Path, keys: Path | None = None) -> Broker | None:
    """The broker this bus needs on this machine; None if it is a server somewhere else.

    Args:
        url: `zmq://` for one in `sockets`; a path in the url is used in place of that.
        directory: where the broker keeps its log.
        sockets: a short path for its sockets, 0700.
        keys: its identity file, by which it knows whom to believe; None: it believes whoever can
            reach its sockets, and says so when it starts.

    Raises: InvalidInput (unknown scheme).
    """
    backend = _backend(url)
    if not hasattr(backend, "program"):
        return None
    args, client_url, writes = backend.program(url, directory, sockets, keys)
    return Broker("mesh.bus:serve", (urlsplit(url).scheme, *args), client_url, writes)


def modules(url: str) -> tuple[str, ...]:
    """What a program will import for this bus: for whoever imports once and forks many.

    Raises: InvalidInput: no such backend.
    """
    return cast("tuple[str, ...]", _backend(url).MODULES)


def serve(scheme: str, *args: str) -> None:
    """Run a broker with the arguments of `program`, until SIGTERM.

    Raises: SystemExit: 78 when its configuration will not do, 1 when its log failed.
    """
    _backend(f"{scheme}://").serve(list(args))


def states(url: str, directory: Path) -> dict[str, OutboxState]:
    """Every stream as the log of a broker that does not run has it; none where no log is.

    Raises: LogBroken.
    """
    return cast("dict[str, OutboxState]", _backend(url).states(directory))


def guests(url: str, file: Path) -> dict[str, OutboxState]:
    """The streams in a copy of the file that a bus keeps for programs without an outbox.

    Raises: LogBroken.
    """
    return cast("dict[str, OutboxState]", _backend(url).guests(file))


def link(url: str, file: Path, stream: str, seq: int) -> Link | None:
    """The link of one event in a file of a bus that does not run; None if it is not kept there.

    Raises: LogBroken.
    """
    return cast("Link | None", _backend(url).link(file, stream, seq))


def log_file(url: str, directory: Path) -> Path:
    """Where a broker keeps its log: a replica, which may be deleted while it does not run."""
    return cast("Path", _backend(url).log_file(directory))


def adopt(url: str, directory: Path, others: dict[str, Others]) -> None:
    """Have that file, in `directory`, go on in a new epoch of each of its streams.

    Raises: LogBroken; Conflict when events that must be told again are no longer kept.
    """
    _backend(url).adopt(directory, others)


def _backend(url: str) -> ModuleType:
    scheme = urlsplit(url).scheme
    if scheme not in schemes():
        raise InvalidInput(
            f"no bus backend for {url!r}",
            hint=f"use one of: {', '.join(f'{name}://' for name in schemes())}",
        )
    return importlib.import_module(f"mesh.buses.{scheme}")
