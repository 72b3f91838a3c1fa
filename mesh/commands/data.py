"""`-d JSON|@FILE|@-`: a JSON value from the command line, a file or stdin."""

from __future__ import annotations

import sys
from pathlib import Path

from mesh.commands.request import parse_data
from mesh.errors import WrongUsage

DATA_BYTES_MAX = 1024 * 1024
"""Largest file behind `-d @FILE`: no service takes a larger body."""


def given(text: str) -> object:
    """The value. Raises: WrongUsage."""
    if not text.startswith("@"):
        return parse_data(text)
    try:
        if text == "@-":
            raw = sys.stdin.buffer.read(DATA_BYTES_MAX + 1)
        else:
            with Path(text[1:]).open("rb") as file:
                raw = file.read(DATA_BYTES_MAX + 1)
    except OSError as error:
        raise WrongUsage(f"{text[1:]} cannot be read: {error.strerror}") from None
    if len(raw) > DATA_BYTES_MAX:
        raise WrongUsage(f"{text[1:]} is larger than {DATA_BYTES_MAX} bytes")
    return parse_data(raw.decode("utf-8", "replace"))
