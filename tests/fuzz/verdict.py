"""What an attack must not have done."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.fuzz.attack import Outcome

GROWN_BYTES_MAX = 20 * 1024 * 1024


def wrong(found: Outcome) -> list[str]:
    checks = (
        (found.exit_code == 0, f"the bus ended with {found.exit_code}"),
        (found.log_is_outbox, "the log is not what was told"),
        (found.applied == found.told, "an event did not arrive, or twice"),
        (found.grown_bytes <= GROWN_BYTES_MAX, f"the bus grew by {found.grown_bytes} bytes"),
        (found.counted >= found.refused, f"{found.refused} refused, {found.counted} counted"),
    )
    return [what for holds, what in checks if not holds]
