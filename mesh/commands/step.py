"""The command line's own part in a story: its first step, from asking to being answered."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mesh import clock
from mesh.errors import MeshError
from mesh.tracing import recorder, variables
from mesh.tracing.context import new_trace, parse_traceparent
from mesh.tracing.store import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesh.commands.http import Answer
    from mesh.commands.peers import Peers
    from mesh.commands.request import Request

FAILED_FROM = 500
"""From here on it is the service that has failed, not the question."""


def first_step(
    peers: Peers, service: str, operation: str, request: Request, headers: Mapping[str, str]
) -> tuple[Answer, str]:
    """Ask, recorded beside the mesh's description; returns the answer and the story's id.

    With a `traceparent` among the headers the story is somebody else's, and so is its record.

    Raises: what `Peers.ask` raises.
    """
    wanted = variables.sampling(os.environ)
    wanted.choose()
    trace, sent = new_trace(), dict(headers)
    theirs = next((value for name, value in sent.items() if name.lower() == "traceparent"), None)
    if theirs is None:
        sent["traceparent"] = trace.traceparent
    begun_s, status, answered = clock.monotonic_s(), "", None
    try:
        answer = peers.ask(service, request.method, request.target, body=request.body, headers=sent)
        answered = answer.status
        status = str(answered) if answered >= FAILED_FROM else ""
    except MeshError as error:
        status = error.code
        raise
    finally:
        if theirs is None and wanted.recording and trace.sampled:
            values = (service, request.method, request.target, answered)
            ended_s, name = clock.monotonic_s(), f"mesh call {service} {operation}"
            recorder.note(
                peers.project.data / COMMANDS,
                (trace.trace_id, trace.span_id, "", "call", name, begun_s, ended_s, status, values),
            )
    told = parse_traceparent(theirs)
    return answer, told.trace_id if told is not None else trace.trace_id
