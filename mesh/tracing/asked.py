"""One attempt of an ask, as its caller sees it: a step of the story, and a count for its callee."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import MeshError, Refused
from mesh.tracing.recorder import recorder

if TYPE_CHECKING:
    from mesh.histogram import Window
    from mesh.tracing.context import TraceContext
    from mesh.tracing.span import Value


def asked(
    window: Window,
    step: TraceContext,
    parent_id: str,
    begun_s: float,
    about: tuple[str, *tuple[Value, ...]],
    error: BaseException | None,
) -> None:
    """It has ended. A refusal is an answer; anything else raised is a failed attempt.

    Args:
        step: what was sent along.
        about: callee, method, `/path/{field}`, which attempt from 1, status of the answer or None.
    """
    failure = ""
    if error is not None and not isinstance(error, Refused):
        failure = error.code if isinstance(error, MeshError) else type(error).__name__
    ended_s = clock.monotonic_s()
    window.add(ended_s - begun_s, failed=bool(failure))
    recorder.record("client", step, parent_id, about[0], begun_s, ended_s, failure, about)
