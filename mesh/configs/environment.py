"""Files of `NAME=value` lines, as `env_file` names them. Values are taken as they stand."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

FILE_BYTES_MAX = 64 * 1024
"""Larger than any environment a process could be given comfortably."""

_LINE = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)")


def _value(text: str) -> str:
    """Without the quotes around it, or without a ` # comment` behind it."""
    for quote in ("'", '"'):
        if text.startswith(quote) and text.endswith(quote) and len(text) > 1:
            return text[1:-1]
    return re.split(r"\s+#", text, maxsplit=1)[0].rstrip()


def read(file: Path) -> tuple[dict[str, str], list[str]]:
    """The variables of a file, and what is wrong with it (by line, never showing a value)."""
    try:
        raw = file.read_bytes()
    except OSError as error:
        return {}, [str(error.strerror).lower()]
    if len(raw) > FILE_BYTES_MAX:
        return {}, [f"larger than {FILE_BYTES_MAX} bytes"]
    found: dict[str, str] = {}
    wrong: list[str] = []
    for number, line in enumerate(raw.decode("utf-8", "replace").splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        match = _LINE.fullmatch(stripped)
        if match is None or "\0" in stripped:
            wrong.append(f"line {number} is not NAME=value")
            continue
        found[match.group(1)] = _value(match.group(2))
    return found, wrong
