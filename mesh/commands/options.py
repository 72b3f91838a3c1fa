"""What stands before the command: the globals, as they were given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class Options:
    """`-f`, `-p`, `--data-dir`, `--debug`; None for what was not given."""

    file: str | None = None
    name: str | None = None
    data: str | None = None
    debug: bool = False
