"""One call is one story: from the command line through every service, event, retry and kill."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import psutil

from tests.support.collector import attributes, collecting
from tests.support.running import RunningMesh, eventually

if TYPE_CHECKING:
    from pathlib import Path


def chain(story: dict[str, Any], span: dict[str, Any]) -> list[tuple[str, str]]:
    """Who led to it, from the first step on."""
    known = {each["span_id"]: each for each in story["spans"]}
    found = []
    while span is not None:
        found.append((span["service"], span["kind"]))
        span = known.get(span["parent_id"])
    return found[::-1]


def kinds(story: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [each for each in story["spans"] if each["kind"] == kind]


def test_a_story_spans_call_commits_events_and_listeners_and_is_exported(tmp_path: Path):
    with collecting() as collector:
        shop = RunningMesh(tmp_path, environment={"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url})
        shop.up()
        try:
            assert shop.services()["otlp"]["state"] == "ready"
            called = shop.json("call", "order", "create")
            assert called["status"] == 201
            assert shop.json("trace", "--last")["trace_id"] == called["trace_id"]
            shop.idle()
            story = shop.json("trace", "--last")
            assert {each["status"] for each in story["spans"]} == {"ok"}
            order, product = [("mesh", "call"), ("order", "server")], [("order", "client")]
            product = [*order, *product, ("product", "server")]
            heard = {each["name"]: each for each in kinds(story, "handler")}
            assert set(heard) == {"on_stock_changed", "on_order_status_changed"}
            assert chain(story, heard["on_order_status_changed"]) == [
                *order,
                ("order", "outbox"),
                ("user", "delivery"),
                ("user", "handler"),
            ]
            handler = heard["on_stock_changed"]
            assert chain(story, handler) == [
                *product,
                ("product", "outbox"),
                ("order", "delivery"),
                ("order", "handler"),
            ]
            commits = [chain(story, each) for each in kinds(story, "commit")]
            assert [*order, ("order", "commit")] in commits
            assert [*product, ("product", "commit")] in commits
            assert [*chain(story, handler), ("order", "commit")] in commits
            told = {each["name"] for each in kinds(story, "outbox")}
            assert told == {"order.status_changed", "product.stock_changed"}
            assert "order.status_changed" in shop.run("trace", "--last").stdout

            def exported() -> list[tuple[dict[str, Any], Any]]:
                found = collector.spans()
                return [each for each in found if each[1].trace_id.hex() == story["trace_id"]]

            eventually(lambda: len(exported()) == len(story["spans"]), within_s=30)
            served = {
                resource["service.name"]: attributes(span)
                for resource, span in exported()
                if span.kind == 2
            }
            assert served["order"]["http.route"] == "/orders"
            assert served["order"]["http.response.status_code"] == 201
            assert served["product"]["http.request.method"] == "PUT"
            assert {span.span_id.hex() for _, span in exported()} == {
                each["span_id"] for each in story["spans"]
            }
        finally:
            shop.down()
    assert shop.json("trace", "--last") == story, "it is read from files, also when nothing runs"


def test_a_retry_after_a_kill_is_seen_in_the_story(mesh: RunningMesh):
    mesh.run("restart", "order")  # it keeps no connection to product now
    mesh.run("chaos", "latency", "product", "--ms", "500")
    running = mesh.services()
    order = psutil.Process(running["order"]["pid"])

    def product_is_asked() -> bool:
        peers = [each.raddr for each in order.net_connections("tcp") if each.raddr]
        return any(peer.port == running["product"]["port"] for peer in peers)

    call = mesh.start("call", "order", "create", "--json")
    eventually(product_is_asked, within_s=30)
    os.kill(running["product"]["pid"], signal.SIGKILL)
    _, err = call.communicate(timeout=30)
    assert call.returncode == 0, err
    mesh.idle()
    story = mesh.json("trace", "--last")
    asks = kinds(story, "client")
    assert asks[0]["status"] == "error", asks
    assert len(asks) > 1
    held = [each for each in kinds(story, "server") if each["name"] == "hold"]
    assert [each["attributes"]["status"] for each in held if each["status"] == "ok"] == [200]
    befell = [each["what"] for each in story["incidents"] if each["program"] == "product"]
    assert [what for what in befell if what.startswith("ready ->") and "signal 9" in what], befell
    shown = mesh.run("trace", "--last").stdout
    assert "signal 9" in shown


def test_includes_the_id_and_its_logs_name_the_step(mesh: RunningMesh):
    shown = mesh.run("call", "order", "create", "-i").stdout
    (line,) = [line for line in shown.splitlines() if line.startswith("trace: ")]
    trace_id = line.removeprefix("trace: ")
    assert trace_id in mesh.run("trace", trace_id[:10]).stdout
    rows = mesh.json("trace")["traces"]
    assert trace_id in [row["trace_id"] for row in rows]
    eventually(lambda: mesh.services()["order"]["requests_per_s"], within_s=60)
    figures = mesh.services()["order"]
    assert figures["p99_ms"] > 0
    assert figures["error_percent"] == 0
    assert sum(figures["history"]) >= 1
    assert {each["callee"]: each["breaker"] for each in figures["asks"]} == {
        "auth": "closed",
        "product": "closed",
    }
    assert {each["stream"] for each in figures["hears"]} == {"auth", "product", "user"}
    assert figures["tells"]["events_per_s"] > 0


def test_a_compensation_that_has_to_wait_belongs_to_the_story(mesh: RunningMesh):
    order = mesh.json("call", "order", "create")["body"]
    mesh.run("stop", "product")
    cancelled = mesh.json("call", "order", "cancel", f"id={order['id']}")
    mesh.run("start", "product")
    mesh.idle()
    story = mesh.json("trace", cancelled["trace_id"])
    tries = kinds(story, "deferred")
    assert tries[-1]["status"] == "ok", tries
    assert [each["attempt"] for each in tries] == [*range(1, len(tries) + 1)]
    assert "error" in [each["status"] for each in tries], "product was not there"
    (released,) = [
        each
        for each in kinds(story, "server")
        if each["service"] == "product" and each["error"] is None
    ]
    assert chain(story, released)[:2] == [("mesh", "call"), ("order", "server")]
    assert ("order", "deferred") in chain(story, released)
