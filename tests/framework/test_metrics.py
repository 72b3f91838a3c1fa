"""What is counted is exposed exactly, and the last seconds are told apart from the rest."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from mesh.framework.metrics import BOUNDS_US, Metrics


def samples(metrics: Metrics) -> dict[tuple[str, str, str], float]:
    return {
        (each.name, each.labels.get("status", ""), each.labels.get("le", "")): each.value
        for family in text_string_to_metric_families(metrics.text().decode())
        for each in family.samples
    }


def test_requests_are_exposed_in_exact_buckets():
    metrics = Metrics()
    for status, seconds in [(201, 0.000255), (201, 0.000256), (409, 0.003), (500, 100.0)]:
        metrics.request("create", status, seconds)
    found = samples(metrics)
    assert found["mesh_requests_total", "201", ""] == 2
    assert found["mesh_requests_total", "500", ""] == 1
    assert found["mesh_request_seconds_bucket", "", "0.000256"] == 1
    assert found["mesh_request_seconds_bucket", "", "0.000512"] == 2
    assert found["mesh_request_seconds_bucket", "", "0.004096"] == 3
    assert found["mesh_request_seconds_bucket", "", str(BOUNDS_US[-1] / 1e6)] == 3
    assert found["mesh_request_seconds_bucket", "", "+Inf"] == 4
    assert found["mesh_request_seconds_count", "", ""] == 4
    assert round(found["mesh_request_seconds_sum", "", ""], 3) == 100.004


def test_window_counts_our_failures_alone():
    metrics = Metrics()
    for status in (200, 409, 500, 503):
        metrics.request("create", status, 0.001)
    assert metrics.window.turn() == 4
    assert metrics.window.figures().error_percent == 50


def test_gauge_is_read_when_somebody_asks():
    metrics, value = Metrics(), [1.0]
    metrics.gauge("things", "How many", lambda: value[0])
    value[0] = 7.0
    assert samples(metrics)["mesh_things", "", ""] == 7
