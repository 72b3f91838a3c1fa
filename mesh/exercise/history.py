"""What was asked and answered, in order: the evidence that a run is judged by.

One JSON line for each invocation and one for its end. `unknown` is an end too: a request that was
cut off or not answered in time may or may not have happened, and is never taken for a failure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Literal

from msgspec import Struct

from mesh import codec
from mesh.errors import StorageFull

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mesh.exercise.scenario import Ask

FILE = "history.jsonl"

SEEN = frozenset({"id", "user_id", "status", "version", "on_hand", "reserved", "available"})
"""Members of answers that a judgement needs; the rest is not kept."""

ITEMS_MAX = 100
"""Of a list in an answer: a page."""

LINE_BYTES_MAX = 256 * 1024
"""A line that is longer was not written here."""

End = Literal["ok", "fail", "unknown"]


class Entry(Struct, frozen=True, omit_defaults=True):
    """One line. `call` joins an invocation with its end, `key` the tries of one request.

    `value` is what was sent, or of the answer what is judged: members of the entity itself, and
    `items` of a list.
    """

    at_ms: float
    call: int
    type: Literal["invoke", "ok", "fail", "unknown"]
    operation: str
    visit: int = 0
    by: str | None = None
    key: str | None = None
    status: int = 0
    value: dict[str, object] = {}


def seen(body: object) -> dict[str, object]:
    """The members of an answer that are kept."""
    if not isinstance(body, dict):
        return {}
    found = {name: value for name, value in body.items() if name in SEEN}
    items = body.get("items")
    if isinstance(items, list):
        found["items"] = [seen(each) for each in items[:ITEMS_MAX]]
    return found


class Recorder:
    """Writes the history while it happens. Each call raises StorageFull where it cannot."""

    def __init__(self, file: BinaryIO) -> None:
        """`file` is written through the buffer it brings."""
        self._file = file
        self._calls = 0

    def close(self) -> None:
        """Nothing more is written. Raises: StorageFull."""
        try:
            self._file.close()
        except OSError as error:
            raise _full(error) from error

    def invoke(self, ask: Ask, at_ms: float, by: str | None) -> int:
        """A request is about to be sent; returns what its end is to name."""
        self._calls += 1
        secret = {"password", "payment_token"}
        sent = {name: value for name, value in ask.fields.items() if name not in secret}
        label = ask.route.label
        self._write(Entry(at_ms, self._calls, "invoke", label, ask.visit, by, ask.key, 0, sent))
        return self._calls

    def end(
        self,
        call: int,
        ask: Ask,
        at_ms: float,
        kind: End,
        status: int,
        body: object,
        by: str | None,
    ) -> None:
        """How it ended; `status` 0 and no body where nothing was answered."""
        value = seen(body) if kind == "ok" else {}
        self._write(
            Entry(at_ms, call, kind, ask.route.label, ask.visit, by, ask.key, status, value)
        )

    def _write(self, entry: Entry) -> None:
        try:
            self._file.write(codec.encode(entry) + b"\n")
        except OSError as error:
            raise _full(error) from error


def _full(error: OSError) -> StorageFull:
    return StorageFull(
        f"the history of the run cannot be written: {(error.strerror or str(error)).lower()}",
        hint="free some space where the data is, or take a shorter --duration",
    )


def read(file: Path) -> Iterator[Entry]:
    """A recorded history, line by line. Raises: InvalidInput."""
    with file.open("rb") as lines:
        while line := lines.readline(LINE_BYTES_MAX):
            yield codec.decode(line, Entry)
