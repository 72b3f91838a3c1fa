"""Fresh tokens for a program that cannot sign its own: a file of callee → token, renewed in time."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

RENEW_S = 20.0
"""A token lives 60 s; whoever reads the file has at least 40 s left."""


def write(
    path: Path, subject: str, audiences: Sequence[str], mint: Callable[[str, str], str]
) -> None:
    """Put a fresh token for each of `audiences` there, all at once or none; 0600.

    Raises: OSError.
    """
    content = json.dumps({audience: mint(subject, audience) for audience in audiences})
    draft = path.with_suffix(".new")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(draft, flags, 0o600), "w", encoding="utf-8") as file:
        file.write(content)
    draft.replace(path)
