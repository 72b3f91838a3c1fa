"""The bus over ZeroMQ: MLP/1, a broker with a durable log, and its clients.

`protocol` holds the rules, `wire` the bytes, `log` the disk; `broker` and `client` are the two
ends, `program` the broker's process. Importing this costs nothing: ZeroMQ is loaded by use.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Callable

    from mesh.buses.adoption import Others
    from mesh.buses.contract import Bus, Link, OutboxState


MODULES = ("mesh.buses.zmq.client", "mesh.buses.zmq.program")
"""What the two ends import when they are used."""


def connect(url: str, name: str, token: Callable[[], str] | None) -> Bus:
    """A connection to the broker whose sockets are in the url's directory.

    Raises: InvalidInput (no directory in the url, or a path too long for a socket).
    """
    from mesh.buses.zmq.client import ZmqBus  # noqa: PLC0415  the door must not load ZeroMQ

    directory = _directory_of(url)
    if not directory:
        raise InvalidInput(
            f"the bus {url!r} names no directory", hint="zmq:///directory/of/sockets"
        )
    return ZmqBus(Path(directory), name, token)


OPEN = "open"
"""In the place of the file of keys: whoever can reach the sockets is believed."""


def program(
    url: str, directory: Path, sockets: Path, keys: Path | None
) -> tuple[tuple[str, ...], str, tuple[str, ...]]:
    """The broker's arguments, the url its clients connect to, and where it makes its sockets."""
    where = Path(_directory_of(url) or sockets).absolute()
    known = OPEN if keys is None else str(keys.absolute())
    return (
        (str(directory.absolute()), str(where), known),
        f"zmq://{quote(str(where))}",
        (str(where),),
    )


def serve(args: list[str]) -> None:
    """Run the broker with the arguments that `program` gave."""
    from mesh.buses.zmq.program import main  # noqa: PLC0415  the door must not load ZeroMQ

    directory, sockets, keys = args
    main(directory, sockets, None if keys == OPEN else keys)


def states(directory: Path) -> dict[str, OutboxState]:
    """Every stream as the log there has it, which nobody has open."""
    from mesh.buses.zmq.files import states as found  # noqa: PLC0415  likewise

    return found(directory)


def guests(file: Path) -> dict[str, OutboxState]:
    """The streams in a copy of `hosted.db`."""
    from mesh.buses.zmq.files import guests as found  # noqa: PLC0415  likewise

    return found(file)


def link(file: Path, stream: str, seq: int) -> Link | None:
    """The link of one event in a file of the bus, which nobody has open."""
    from mesh.buses.zmq.files import link as found  # noqa: PLC0415  likewise

    return found(file, stream, seq)


def log_file(directory: Path) -> Path:
    """Where the log lies."""
    return directory / "bus.db"


def adopt(directory: Path, others: dict[str, Others]) -> None:
    """Have the `hosted.db` there go on in a new epoch of each of its streams."""
    from mesh.buses.zmq.files import adopt as do  # noqa: PLC0415  likewise

    do(directory, others)


def _directory_of(url: str) -> str:
    """The path in `zmq:///run/user/1000/mesh-0123`; "" if there is none."""
    parts = urlsplit(url)
    if parts.netloc:
        raise InvalidInput(
            f"the bus {url!r} names a host", hint="only sockets on this machine: zmq:///directory"
        )
    return unquote(parts.path)
