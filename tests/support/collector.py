"""A collector of OTLP over HTTP: keeps what it is sent, answers as it is told."""

from __future__ import annotations

import base64
import copy
import json
import threading
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Collector(ThreadingHTTPServer):
    """Listens on a free port.

    Attributes:
        answers: status, headers and body of the next answers; 200 when there are none left.
        requests: path, headers and body of each request, accepted or not.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.accepted: list[Any] = []

    @property
    def url(self) -> str:
        """Its base, as OTEL_EXPORTER_OTLP_ENDPOINT wants it."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def spans(self) -> list[tuple[dict[str, Any], Any]]:
        """Each span that was taken, as the protocol's own message, with its resource."""
        found = []
        for body in self.accepted:
            for group in parsed(body).resource_spans:
                resource = attributes(group.resource)
                found += [(resource, span) for part in group.scope_spans for span in part.spans]
        return found


class _Handler(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        collector = self.server
        collector.requests.append((self.path, dict(self.headers), body))
        status, headers, said = (
            collector.answers.popleft() if collector.answers else (200, {}, b"{}")
        )
        if status == 200:
            collector.accepted.append(body)
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def collecting() -> Iterator[Collector]:
    with Collector() as collector:
        thread = threading.Thread(target=collector.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            collector.shutdown()
            thread.join()


def parsed(body: Any) -> Any:
    """The request by the protocol's own schema; unknown members are errors.

    OTLP's JSON has ids in hex where proto3's has base64.
    """
    body = copy.deepcopy(body)
    for group in body["resourceSpans"]:
        for part in group["scopeSpans"]:
            part["spans"] = [
                {
                    name: base64.b64encode(bytes.fromhex(value)).decode()
                    if name in {"traceId", "spanId", "parentSpanId"}
                    else value
                    for name, value in span.items()
                }
                for span in part["spans"]
            ]
    return ParseDict(body, ExportTraceServiceRequest())


def attributes(holder: Any) -> dict[str, Any]:
    """Of a span or a resource."""
    return {
        each.key: getattr(each.value, each.value.WhichOneof("value")) for each in holder.attributes
    }
