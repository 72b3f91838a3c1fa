"""Events as CloudEvents 1.0 structured JSON; pure."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

from mesh import clock

if TYPE_CHECKING:
    from mesh.buses.contract import Event

CloudEvent = dict[str, object]


def _json(raw: bytes) -> object:
    found: object = json.loads(raw)
    return found


def cloud_event(event: Event) -> CloudEvent:
    """One event with the extensions that place it in its stream and in its story.

    `sequence` is a decimal string, `causationid` the id of the event handled, else of the
    request; what is not known is left out. A body that is no JSON travels as `data_base64`.
    """
    said: CloudEvent = {
        "specversion": "1.0",
        "id": clock.uuid_text(event.id),
        "source": f"/{event.stream}",
        "type": event.type,
        **({"subject": event.key} if event.key else {}),
        "time": clock.iso(event.ts_ms),
        "stream": event.stream,
        "epoch": event.epoch,
        "sequence": str(event.seq),
    }
    try:
        trace = _json(event.trace) if event.trace else {}
    except (ValueError, RecursionError):
        trace = {}
    if isinstance(trace, dict):
        for extension, member in (
            ("traceparent", "traceparent"),
            ("correlationid", "correlation"),
            ("causationid", "cause"),
        ):
            if trace.get(member):
                said[extension] = trace[member]
    try:
        data = _json(event.body)
        said |= {"datacontenttype": "application/json", "data": data}
    except (ValueError, RecursionError):
        said["data_base64"] = base64.b64encode(event.body).decode("ascii")
    return said
