"""What is sent is OTLP, in the conventions' words; what is not taken is tried, dropped, counted."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Otlp

from mesh import codec, exporter
from mesh.exporter import ATTEMPTS_MAX, BATCH_MAX, Exporter
from mesh.tracing import otlp, variables
from mesh.tracing.store import NEWER
from tests.support.collector import Collector, attributes, collecting, parsed
from tests.tracing.stories import AT_US, ID, ORDER

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "RETRY_S", (0.0, 0.01))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    (tmp_path / "order").mkdir()
    write(tmp_path, 3)
    return tmp_path


def write(data: Path, count: int) -> None:
    rows = [[ID, f"{n:016x}", "", "deferred", "wake", AT_US + n, 5] for n in range(1, count + 1)]
    with (data / "order" / NEWER).open("ab") as file:
        file.write(codec.encode_lines(rows))


def exporting(collector: Collector, data: Path, **more: str) -> Exporter:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "MESH_PROJECT": "shop", **more}
    wanted = variables.export(environment)
    assert wanted is not None
    assert wanted.complaints == ()
    return Exporter(wanted, data, threading.Event())


def sent() -> dict[int, tuple[Otlp, dict[str, object], dict[str, object]]]:
    """Every span of a story as a collector reads it, with its attributes and its resource's."""
    body = codec.plain(otlp.request(ORDER, {"service.namespace": "shop"}, version="1"))
    found = {}
    for group in parsed(body).resource_spans:
        for span in group.scope_spans[0].spans:
            number = int.from_bytes(span.span_id, "big")
            found[number] = (span, attributes(span), attributes(group.resource))
    return found


def test_ids_times_and_kinds_are_the_protocols():
    found = sent()
    assert set(found) == set(range(1, 14))
    span, _, resource = found[6]
    assert span.trace_id.hex() == ID
    assert int.from_bytes(span.parent_span_id, "big") == 5
    assert span.start_time_unix_nano == (AT_US + 420_000) * 1000
    assert span.end_time_unix_nano == (AT_US + 445_000) * 1000
    assert resource == {"service.namespace": "shop", "service.name": "product"}
    assert found[1][0].parent_span_id == b""
    kinds = {number: one.kind for number, (one, _, _) in found.items()}
    assert (kinds[6], kinds[5], kinds[9]) == (
        Otlp.SPAN_KIND_SERVER,
        Otlp.SPAN_KIND_CLIENT,
        Otlp.SPAN_KIND_PRODUCER,
    )
    assert (kinds[11], kinds[12]) == (Otlp.SPAN_KIND_CONSUMER, Otlp.SPAN_KIND_INTERNAL)


def test_names_are_the_conventions():
    found = sent()
    assert found[6][0].name == "PUT /holds/{order_id}"
    assert found[6][1] == {
        "http.request.method": "PUT",
        "http.route": "/holds/{order_id}",
        "http.response.status_code": 200,
        "url.path": "/h/1",
        "url.scheme": "http",
        "server.address": "product",
        "mesh.operation": "hold",
    }
    assert found[5][1]["http.request.resend_count"] == 1
    assert found[4][1]["error.type"] == "unavailable"
    assert found[4][0].status.code == 2
    assert found[5][0].status.code == 0
    assert found[3][0].name == "COMMIT order"
    assert found[3][1]["db.system.name"] == "sqlite"
    assert found[3][1]["mesh.queue.duration"] == 0.008
    assert (found[9][0].name, found[10][0].name) == ("send product", "receive b")
    assert found[11][1]["messaging.operation.type"] == "process"
    assert found[11][1]["messaging.consumer.group.name"] == "order"


def test_a_refusal_is_an_error_for_who_asked_alone():
    about = ("order", "PUT", "/x", 1, 409)
    asked = codec.replace(ORDER[3], status="", values=about)
    served = codec.replace(ORDER[5], values=("PUT", "/x", "/x", 409))
    body = codec.plain(otlp.request([asked, served], {}, version="1"))
    client, server = (
        span for group in parsed(body).resource_spans for span in group.scope_spans[0].spans
    )
    assert (client.status.code, attributes(client)["error.type"]) == (2, "409")
    assert (server.status.code, attributes(server).get("error.type")) == (0, None)


def test_what_is_on_file_is_sent_once_also_by_the_next_process(collector: Collector, data: Path):
    more = {
        "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20cret, x = y",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=lab",
        "OTEL_SERVICE_NAME": "test-shop",
    }
    first = exporting(collector, data, **more)
    first.look()
    first.look()
    write(data, 2)
    second = exporting(collector, data)
    second.look()
    assert (first.sent, second.sent) == (3, 2)
    (path, headers, _), _ = collector.requests
    assert path == "/v1/traces"
    assert (headers["api-key"], headers["x"]) == ("s cret", "y")
    assert headers["Content-Type"] == "application/json"
    (resource, _), *_ = collector.spans()
    assert resource["deployment.environment.name"] == "lab"
    assert (resource["service.namespace"], resource["service.name"]) == ("test-shop", "order")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_may_be_tried_again_is(collector: Collector, data: Path, status: int):
    collector.answers += [(status, {"Retry-After": "0"}, b""), (status, {}, b"")]
    sender = exporting(collector, data)
    sender.look()
    assert (sender.sent, sender.dropped, len(collector.requests)) == (3, 0, 3)


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_what_may_not_is_dropped_and_counted(collector: Collector, data: Path, status: int):
    collector.answers.append((status, {}, b"no"))
    sender = exporting(collector, data)
    sender.look()
    assert (sender.sent, sender.dropped, len(collector.requests)) == (0, 3, 1)
    write(data, 1)
    sender.look()
    assert sender.sent == 1, "the next ones go on their way"


def test_tries_are_bounded(collector: Collector, data: Path):
    collector.answers += [(503, {}, b"")] * 50
    sender = exporting(collector, data)
    sender.look()
    assert (sender.dropped, len(collector.requests)) == (3, ATTEMPTS_MAX)


def test_nobody_there_is_no_reason_to_fail(data: Path):
    with collecting() as gone:
        sender = exporting(gone, data)
    sender.look()
    assert (sender.sent, sender.dropped) == (0, 3)


def test_partial_success_is_heeded(collector: Collector, data: Path):
    collector.answers.append((200, {}, b'{"partialSuccess":{"rejectedSpans":"2"}}'))
    sender = exporting(collector, data)
    sender.look()
    assert (sender.sent, sender.dropped) == (1, 2)


def test_requests_are_bounded(collector: Collector, data: Path):
    write(data, BATCH_MAX + 1)
    exporting(collector, data).look()
    sizes = [
        len(body["resourceSpans"][0]["scopeSpans"][0]["spans"]) for _, _, body in collector.requests
    ]
    assert sizes == [BATCH_MAX, 4]


def test_told_to_stop_it_tries_once_more(collector: Collector, data: Path):
    sender = exporting(collector, data)
    sender._stop.set()
    collector.answers += [(503, {}, b"")] * 9
    sender.work()
    assert len(collector.requests) == 1
