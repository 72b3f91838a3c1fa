"""A story to lay out: an order whose hold is tried twice, since product was killed meanwhile."""

from __future__ import annotations

from mesh.tracing.span import Span

ID = "4bf92f3577b34da6a3ce929d0e0e4736"
AT_US = 1_790_000_000_000_000


def span(
    number: int,
    parent: int,
    service: str,
    kind: str,
    name: str,
    start_ms: float,
    took_ms: float,
    status: str = "",
    values: tuple[str | int | None, ...] = (),
) -> Span:
    return Span(
        ID,
        f"{number:016x}",
        f"{parent:016x}" if parent else "",
        kind,
        name,
        AT_US + int(start_ms * 1000),
        int(took_ms * 1000),
        status,
        values,
        service,
    )


HOLD = ("product", "PUT", "/holds/{order_id}")

ORDER = [
    span(1, 0, "mesh", "call", "mesh call order create", 0, 500, "", ("order", "POST", "/o", 201)),
    span(2, 1, "order", "server", "create", 3, 495, "", ("POST", "/orders", "/orders", 201)),
    span(3, 2, "order", "commit", "commit", 6, 20, "", (8_000, 10_000, 3)),
    span(4, 2, "order", "client", "product", 30, 100, "unavailable", (*HOLD, 1, None)),
    span(5, 2, "order", "client", "product", 200, 250, "", (*HOLD, 2, 200)),
    span(6, 5, "product", "server", "hold", 420, 25, "", ("PUT", "/holds/{order_id}", "/h/1", 200)),
    span(7, 6, "product", "commit", "commit", 425, 18, "", (100, 17_000, 1)),
    span(8, 2, "order", "commit", "commit", 455, 40, "", (0, 30_000, 1)),
    span(9, 6, "product", "outbox", "product.stock_changed", 444, 30, "", ("a", "b", 12)),
    span(10, 9, "order", "delivery", "product.stock_changed", 440, 60, "", ("a", "b", 12)),
    span(11, 10, "order", "handler", "on_stock_changed", 500, 15, "", ("a", "b", 12, 1)),
    span(12, 11, "order", "deferred", "wake", 560, 20, "", ("prd_1", 1, 30_000)),
    span(13, 2, "order", "outbox", "order.status_changed", 496, 9, "", ("a", "b", 7)),
]

BEFELL = [
    (AT_US - 3_600_000_000, "product", "ready -> starting: exit 1"),
    (AT_US + 129_000, "product", "ready -> starting: signal 9"),
    (AT_US + 410_000, "product", "starting -> ready: ready"),
    (AT_US + 410_000, "other", "starting -> ready: ready"),
]
