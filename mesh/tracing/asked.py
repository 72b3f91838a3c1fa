"""One attempt of an ask, as its caller sees it: a step of the story, and a count for its callee."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from mesh import clock
from mesh.errors import MeshError, Refused
from mesh.tracing.recorder import recorder

if TYPE_CHECKING:
    from types import TracebackType

    from mesh.histogram import Window
    from mesh.tracing.context import TraceContext


class Asked:
    """A context around one attempt.

    Attributes:
        trace: what is sent along.
        status: of the answer, once there is one.
    """

    __slots__ = (
        "_attempt",
        "_begun_s",
        "_callee",
        "_parent",
        "_route",
        "_window",
        "status",
        "trace",
    )

    def __init__(
        self, parent: TraceContext, callee: str, route: str, attempt: int, window: Window
    ) -> None:
        """`route` is `METHOD /path/{field}`; `attempt` counts from 1."""
        self.trace = parent.child()
        self.status: int | None = None
        self._parent, self._window = parent, window
        self._callee, self._route, self._attempt = callee, route, attempt
        self._begun_s = clock.monotonic_s()

    def __enter__(self) -> Self:
        """Begun with its making."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """A refusal is an answer; anything else raised is a failed attempt."""
        failed = error is not None and not isinstance(error, Refused)
        status = ""
        if failed:
            status = error.code if isinstance(error, MeshError) else type(error).__name__
        ended_s = clock.monotonic_s()
        self._window.add(ended_s - self._begun_s, failed=failed)
        method, _, path = self._route.partition(" ")
        recorder.record(
            "client",
            self.trace,
            self._parent.span_id,
            self._callee,
            self._begun_s,
            ended_s,
            status,
            (self._callee, method, path, self._attempt, self.status),
        )
