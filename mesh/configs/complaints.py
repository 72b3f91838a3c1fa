"""What is wrong with a configuration, gathered so that everything is told at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mesh.errors import ConfigInvalid

if TYPE_CHECKING:
    from collections.abc import Iterable

COMPLAINTS_MAX = 50
"""More than a person reads; the rest is counted. A file of noise cannot fill the terminal."""


class Place(NamedTuple):
    """Line and column, both from 1."""

    line: int
    column: int


class Complaints:
    """Every complaint about one file, told in the order of the file."""

    def __init__(self, file: str) -> None:
        """`file` is the name to print before each place."""
        self._file = file
        self._found: list[tuple[Place, str]] = []

    def add(self, at: Place, text: str) -> None:
        """Note one; the same one twice is told once."""
        if (at, text) not in self._found:
            self._found.append((at, text))

    def settle(self) -> None:
        """Raise ConfigInvalid if there was any complaint."""
        if not self._found:
            return
        lines = [f"{self._file}:{at.line}:{at.column}: {text}" for at, text in sorted(self._found)]
        if len(lines) > COMPLAINTS_MAX:
            rest = len(lines) - COMPLAINTS_MAX
            lines[COMPLAINTS_MAX:] = [f"{self._file}: and {rest} more"]
        raise ConfigInvalid(tuple(lines))


def suggestion(word: str, known: Iterable[str]) -> str:
    """`, did you mean `port`?` for a near miss, else nothing; to be put after a complaint."""
    from difflib import get_close_matches  # noqa: PLC0415  (only for those who misspell)

    near = get_close_matches(word, list(known), n=1)
    return f", did you mean `{near[0]}`?" if near else ""
