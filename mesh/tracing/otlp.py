"""Spans in the words of OpenTelemetry: OTLP as JSON, attributes of its semantic conventions; pure.

Ids are hex and 64-bit numbers text, as OTLP's JSON has it. Names: the conventions for HTTP (1.23
and later), databases and messaging; ours begin with `mesh.`.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mesh.tracing.span import Span, Value

Json = dict[str, object]

INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = 1, 2, 3, 4, 5

SAMPLED = 1
"""The flags of a span, W3C's."""

FAILED = 2
"""Status code ERROR."""

REFUSED_FROM = 400
"""For who asks, an answer from here on is an error; for who answers it is not."""

MESSAGING_SYSTEM = "zeromq"

_KINDS: Mapping[str, int] = {
    "call": CLIENT,
    "server": SERVER,
    "client": CLIENT,
    "commit": CLIENT,
    "outbox": PRODUCER,
    "delivery": CONSUMER,
    "handler": CONSUMER,
    "deferred": INTERNAL,
}
_OPERATIONS: Mapping[str, str] = {"outbox": "send", "delivery": "receive", "handler": "process"}
_US_PER_S = 1_000_000
_NS_PER_US = 1_000


def request(spans: Iterable[Span], resource: Mapping[str, str], *, version: str) -> Json:
    """The body of one export: an ExportTraceServiceRequest.

    Args:
        resource: attributes of every resource; each service adds its `service.name`.
    """
    by_service: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        by_service[span.service].append(span)
    scope = {"name": "mesh", "version": version}
    return {
        "resourceSpans": [
            {
                "resource": {"attributes": _attributes({**resource, "service.name": service})},
                "scopeSpans": [{"scope": scope, "spans": [_span(each) for each in found]}],
            }
            for service, found in by_service.items()
        ]
    }


def _span(span: Span) -> Json:
    name, attributes = _described(span)
    error = span.status
    status = attributes.get("http.response.status_code")
    if not error and _KINDS.get(span.kind) == CLIENT and isinstance(status, int):
        error = str(status) if status >= REFUSED_FROM else ""
    if error:
        attributes["error.type"] = error
    found: Json = {
        "traceId": span.trace_id,
        "spanId": span.span_id,
        "name": name,
        "kind": _KINDS.get(span.kind, INTERNAL),
        "startTimeUnixNano": str(span.start_us * _NS_PER_US),
        "endTimeUnixNano": str(span.end_us * _NS_PER_US),
        "flags": SAMPLED,
        "attributes": _attributes(attributes),
        "status": {"code": FAILED, "message": error} if error else {},
    }
    if span.parent_id:
        found["parentSpanId"] = span.parent_id
    return found


def _described(span: Span) -> tuple[str, dict[str, Value]]:
    """Name and attributes as the conventions have them."""
    own = span.attributes
    match span.kind:
        case "server":
            name = f"{own.get('method')} {own['route']}" if "route" in own else str(own["method"])
            return name, {
                "http.request.method": own.get("method"),
                "http.route": own.get("route"),
                "http.response.status_code": own.get("status"),
                "url.path": own.get("path"),
                "url.scheme": "http",
                "server.address": span.service,
                "mesh.operation": span.name,
            }
        case "client" | "call":
            peer = own.get("peer", own.get("service"))
            tries = own.get("attempt")
            route = own.get("route")
            return f"{own.get('method')} {route}" if route else str(own.get("method")), {
                "http.request.method": own.get("method"),
                "url.template": route,
                "url.path": str(own["target"]).partition("?")[0] if "target" in own else None,
                "http.response.status_code": own.get("status"),
                "server.address": peer,
                "service.peer.name": peer,
                "http.request.resend_count": tries - 1
                if isinstance(tries, int) and tries > 1
                else None,
            }
        case "commit":
            return f"{span.name.upper()} {span.service}", {
                "db.system.name": "sqlite",
                "db.namespace": span.service,
                "db.operation.name": span.name.upper(),
                "db.operation.batch.size": own.get("group"),
                "mesh.queue.duration": _seconds(own.get("queue_us")),
                "mesh.flush.duration": _seconds(own.get("flush_us")),
            }
        case "outbox" | "delivery" | "handler":
            operation = _OPERATIONS[span.kind]
            stream = own.get("stream", span.service)
            return f"{operation} {stream}", {
                "messaging.system": MESSAGING_SYSTEM,
                "messaging.operation.name": operation,
                "messaging.operation.type": operation,
                "messaging.destination.name": stream,
                "messaging.consumer.group.name": None if span.kind == "outbox" else span.service,
                "cloudevents.event_type": own.get("event"),
                "cloudevents.event_subject": own.get("subject"),
                "mesh.event.sequence": own.get("sequence"),
                "mesh.attempt": own.get("attempt"),
                "code.function.name": span.name if span.kind == "handler" else None,
            }
        case _:
            return span.name, {
                "mesh.key": own.get("key"),
                "mesh.attempt": own.get("attempt"),
                "mesh.queue.duration": _seconds(own.get("waited_us")),
            }


def _seconds(us: Value) -> float | None:
    return us / _US_PER_S if isinstance(us, int | float) else None


def _attributes(values: Mapping[str, Value]) -> list[Json]:
    return [
        {"key": name, "value": _value(value)} for name, value in values.items() if value is not None
    ]


def _value(value: Value) -> Json:
    if isinstance(value, int):
        return {"intValue": str(value)}
    return {"doubleValue": value} if isinstance(value, float) else {"stringValue": str(value)}
