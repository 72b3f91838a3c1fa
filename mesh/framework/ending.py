"""How a service ends for a reason of its own: the last line of its log, and its exit status.

Where a database cannot be used, that line names the backup to go back to. Backups are the
operator's: from here their names can be seen, and nothing of what is in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import snapshot, telemetry
from mesh.errors import Broken, DatabaseBroken, DatabaseDamaged, InvalidInput, MeshError

if TYPE_CHECKING:
    from pathlib import Path

FAILED = 1
EX_CONFIG = 78
"""sysexits.h: starting again will not help."""

log = telemetry.logger("framework.process")


def unstarted(error: MeshError, data_dir: Path) -> int:
    """Tell why a service does not come to serve; returns the exit status.

    Args:
        data_dir: the service's own, among those of the others.
    """
    if isinstance(error, InvalidInput | Broken):
        log.critical("cannot start: %s", error, extra=_facts(error, data_dir))
        return EX_CONFIG
    log.critical("stopped: %s", error, extra=telemetry.facts(code=error.code))
    return FAILED


def broken_off(error: BaseException, data_dir: Path) -> int:
    """Tell why a service that served cannot go on; returns the exit status."""
    if isinstance(error, DatabaseDamaged):
        log.critical("stopped for good: %s", error, extra=_facts(error, data_dir))
        return EX_CONFIG
    why = error.evidence if isinstance(error, MeshError) else ()
    log.critical("stopped, to be opened afresh: %s", error, extra=telemetry.facts(why=why))
    return FAILED


def _facts(error: MeshError, data_dir: Path) -> dict[str, object]:
    hint = error.hint
    if isinstance(error, DatabaseBroken):
        hint = snapshot.way_back(data_dir.parent, hint)
    return telemetry.facts(hint=hint, why=error.evidence)
