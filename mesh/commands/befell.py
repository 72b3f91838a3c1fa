"""What befell the programs, read from the supervisor's own log: kills, restarts, faults."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mesh.orchestrator import logs
from mesh.orchestrator.plan import SUPERVISOR

if TYPE_CHECKING:
    from pathlib import Path

LINES_MAX = 5_000
"""Of that log, from its end: some days of an ordinary mesh."""

US_PER_MS = 1_000


def befell(folder: Path) -> list[tuple[int, str, str]]:
    """Microseconds since the epoch, the program, and what happened to it.

    Args:
        folder: of the logs.
    """
    found: list[tuple[int, str, str]] = []
    for line in logs.tail({SUPERVISOR: folder / f"{SUPERVISOR}.log"}, LINES_MAX):
        try:
            said = json.loads(line.text)
        except ValueError:
            continue
        if not isinstance(said, dict) or line.at_ms is None:
            continue
        match said.get("message"):
            case "transition" if said.get("restarts") or said.get("new") not in {
                "starting",
                "ready",
            }:
                what = f"{said.get('old')} -> {said.get('new')}: {said.get('cause')}"
                found.append((line.at_ms * US_PER_MS, str(said.get("name")), what))
            case "fault":
                what = f"fault {said.get('kind')}" + (
                    f" for {said['for_s']:g} s" if said.get("for_s") else ""
                )
                found.append((line.at_ms * US_PER_MS, str(said.get("target")), what))
    return found
