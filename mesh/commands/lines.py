"""One log line: read from the text a program wrote, shown to a person or a program; pure.

Our own services write JSON; any other text is taken as it is, its level guessed from the words
that loggers usually put in front.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mesh import clock
from mesh.configs import durations
from mesh.configs.complaints import suggestion
from mesh.errors import WrongUsage

if TYPE_CHECKING:
    from mesh.commands.output import Part, Style

LEVELS = ("debug", "info", "warning", "error", "critical")
_SAME_LEVEL = {"warn": "warning", "err": "error", "fatal": "critical", "trace": "debug"}
_STYLES: dict[str, Style] = {"warning": "warn", "error": "bad", "critical": "bad"}
_OWN = ("time", "level", "service", "message")

GUESS_CHARS = 80
"""A logger names its level near the beginning; further on it is somebody's prose."""

_LEVEL_WORD = re.compile(
    r"\b(TRACE|DEBUG|INFO|WARN(?:ING)?|ERR(?:OR)?|CRITICAL|FATAL)\b", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Line:
    """`at_ms` and `level` are None where nothing tells; `structured`: it came as JSON."""

    service: str
    message: str
    at_ms: int | None = None
    level: str | None = None
    facts: dict[str, object] = field(default_factory=dict)
    structured: bool = False


def parse(service: str, text: str, at_ms: int | None) -> Line:
    """What one line of a log file says.

    Args:
        at_ms: the time by which it was ordered: its own, else that of the line before it.
    """
    if text.startswith("{"):
        try:
            said: object = json.loads(text)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict) and isinstance(said.get("message"), str):
            level = said.get("level")
            return Line(
                service,
                str(said["message"]),
                at_ms,
                level_of(level) if isinstance(level, str) else None,
                {name: value for name, value in said.items() if name not in _OWN},
                structured=True,
            )
    found = _LEVEL_WORD.search(text[:GUESS_CHARS])
    return Line(service, text, at_ms, level_of(found.group(1)) if found else None)


def level_of(word: str) -> str | None:
    """The level a word stands for."""
    lower = word.lower()
    level = _SAME_LEVEL.get(lower, lower)
    return level if level in LEVELS else None


def as_json(line: Line) -> dict[str, object]:
    """One object of `mesh logs --json`; unknown values are null."""
    return {
        **line.facts,
        "service": line.service,
        "time": None if line.at_ms is None else clock.iso(line.at_ms),
        "level": line.level,
        "message": line.message,
    }


def facts_text(line: Line) -> str:
    """`peer=product status=503`: what a line says besides its message, for a person."""
    return " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in line.facts.items()
        if name not in {"exception", "trace_id", "span_id"}
    )


def as_parts(line: Line, *, width: int, style: Style, timestamps: bool) -> list[Part]:
    """One line for a person: `order | warning a peer is away  peer=product`."""
    parts: list[Part] = [(f"{line.service:<{width}} | ", style)]
    if timestamps:
        parts.append((f"{'-' if line.at_ms is None else clock.iso(line.at_ms)} ", "faint"))
    if line.structured and line.level not in {None, "info"}:
        parts.append((f"{line.level} ", _STYLES.get(line.level or "", "faint")))
    parts.append(line.message)
    exception = line.facts.get("exception")
    if told := facts_text(line):
        parts.append(("  " + told, "faint"))
    if isinstance(exception, str) and exception:
        parts.append((f"  {exception.strip().splitlines()[-1]}", "bad"))
    return parts


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are wanted. An untold time is any time, an untold level counts as `info`.

    `search` is matched anywhere in the message and the facts.
    """

    since_ms: int | None = None
    until_ms: int | None = None
    level: str | None = None
    search: re.Pattern[str] | None = None

    @property
    def filters(self) -> bool:
        """Whether there are lines that are not wanted."""
        return self != Wanted()

    def takes(self, line: Line) -> bool:
        """Whether this line is one of them."""
        if line.at_ms is not None:
            if self.since_ms is not None and line.at_ms < self.since_ms:
                return False
            if self.until_ms is not None and line.at_ms > self.until_ms:
                return False
        if self.level and LEVELS.index(line.level or "info") < LEVELS.index(self.level):
            return False
        if self.search is None:
            return True
        facts = json.dumps(line.facts, ensure_ascii=False) if line.facts else ""
        return bool(self.search.search(line.message) or self.search.search(facts))


def parse_level(text: str) -> str:
    """A level as the command line names it. Raises WrongUsage."""
    level = level_of(text)
    if level is None:
        raise WrongUsage(
            f"there is no level `{text}`{suggestion(text, LEVELS)}",
            hint=f"use one of: {', '.join(LEVELS)}",
        )
    return level


def parse_moment(text: str, now_ms: int) -> int:
    """A point in time: an RFC 3339 time, or how long ago (`10m`, `1h30m`).

    Raises: WrongUsage.
    """
    ago_s = durations.parse_s(text)
    if ago_s is not None:
        return now_ms - round(ago_s * clock.MS_PER_S)
    try:
        return clock.parse_iso(text)
    except (ValueError, OverflowError):
        raise WrongUsage(
            f"`{text}` is no point in time", hint="write 10m, 1h30m or 2026-08-24T10:00:00Z"
        ) from None
