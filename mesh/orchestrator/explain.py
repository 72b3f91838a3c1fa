"""Why a program is in its state, told from its life and those of the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import clock
from mesh.orchestrator import plan
from mesh.orchestrator.contract import Explanation, Unmet
from mesh.orchestrator.restart import WINDOW_S

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesh.orchestrator.life import Life
    from mesh.orchestrator.runner import Runner


def explanation(runner: Runner, lives: Mapping[str, Life]) -> Explanation:
    """What `mesh explain` tells of one program.

    Args:
        lives: everybody's, for what it waits for.
    """
    life, program = runner.life, runner.program
    unmet = plan.unmet(program, lives) if life.waiting else {}
    row, now_s = runner.status(), clock.monotonic_s()
    wakes = life.wake_s is not None and life.state == "backoff"
    return Explanation(
        name=program.name,
        state=life.state,
        desired=life.desired,
        cause=life.cause,
        for_s=round(now_s - life.since_s, 3),
        pid=row.pid,
        uptime_s=row.uptime_s,
        restarts=life.restarts,
        waits_for=tuple(
            Unmet(
                name=name,
                condition=dependency.condition,
                state=lives[name].state,
                cause=lives[name].cause,
            )
            for name, dependency in unmet.items()
        ),
        next_try_in_s=round(max(0.0, (life.wake_s or 0.0) - now_s), 3) if wakes else None,
        failures=sum(now_s - at_s < WINDOW_S for at_s in life.failures),
        failures_max=program.restart.limit if program.restart.when == "on-failure" else None,
        probe=runner.last_probe(),
        last_exit=runner.last_exit,
        port=row.port,
        url=row.url,
        log=str(runner.log),
        lines=runner.evidence(),
    )
