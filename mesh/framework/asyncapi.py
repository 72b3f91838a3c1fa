"""The AsyncAPI 3.0 document of a service, generated from its table.

A channel is a stream of the bus, so it bears its service's name: events of one channel come in
their order. A message is a CloudEvent 1.0 with our extensions. What is told is declared whole,
what is heard by the members that are read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import codec

if TYPE_CHECKING:
    from mesh.framework.service import Listener, Service, Tells

VERSION = "3.0.0"
CONTENT_TYPE = "application/cloudevents+json"

_ENVELOPE: dict[str, dict[str, object]] = {
    "specversion": {"const": "1.0"},
    "id": {"type": "string", "format": "uuid", "description": "The same again for a repeat."},
    "subject": {"type": "string", "description": "Id of the entity that it is about."},
    "time": {"type": "string", "format": "date-time"},
    "datacontenttype": {"const": "application/json"},
    "epoch": {"type": "integer", "description": "Sequences of different epochs do not compare."},
    "sequence": {
        "type": "string",
        "pattern": "^[0-9]+$",
        "description": "Place in the stream, contiguous within an epoch.",
    },
    "traceparent": {"type": "string", "description": "W3C trace context of what caused it."},
    "correlationid": {"type": "string"},
    "causationid": {
        "type": "string",
        "description": "Id of the event that was handled, else of the request.",
    },
}
_SOMETIMES = {"subject", "traceparent", "correlationid", "causationid"}


def document(service: Service, version: str) -> dict[str, object]:
    """The whole document, as plain values."""
    told, heard = service.tells, service.listeners
    shapes = {row.event: row.data for row in told} | {row.event: row.reads for row in heard}
    found, components = codec.schemas([*shapes.values()])
    messages = {event: _message(event, data) for event, data in zip(shapes, found, strict=True)}
    channels: dict[str, dict[str, object]] = {}
    for name in messages:
        stream = name.partition(".")[0]
        whose = "its own" if stream == service.name else f"{stream}'s"
        channel = channels.setdefault(
            stream, {"address": stream, "description": f"The stream: {whose}.", "messages": {}}
        )
        channel["messages"][name] = {"$ref": f"#/components/messages/{name}"}  # type: ignore[index]
    return {
        "asyncapi": VERSION,
        "info": {"title": service.name, "version": version, "description": service.summary},
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": {
            **{f"tell.{row.event}": _operation("send", row) for row in told},
            **{f"hear.{row.event}": _operation("receive", row) for row in heard},
        },
        "components": {"messages": messages, "schemas": components},
    }


def _operation(action: str, row: Tells | Listener) -> dict[str, object]:  # type: ignore[type-arg]
    channel = f"#/channels/{row.event.partition('.')[0]}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{row.event}"}],
    }


def _message(event: str, data: dict[str, object]) -> dict[str, object]:
    stream = event.partition(".")[0]
    properties = {
        **_ENVELOPE,
        "source": {"const": f"/{stream}"},
        "type": {"const": event},
        "stream": {"const": stream},
        "data": data,
    }
    return {
        "name": event,
        "contentType": CONTENT_TYPE,
        "payload": {
            "type": "object",
            "required": [name for name in properties if name not in _SOMETIMES],
            "properties": properties,
        },
    }
