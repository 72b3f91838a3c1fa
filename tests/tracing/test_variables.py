"""The standard OTEL_… variables are heeded as the specification has them."""

from __future__ import annotations

import pytest

from mesh.tracing import variables
from mesh.tracing.context import Sampler, TraceContext, new_trace, parse_traceparent, sampler

URL = "OTEL_EXPORTER_OTLP_ENDPOINT"


@pytest.mark.parametrize(
    ("environment", "recording", "ratio", "parent"),
    [
        ({}, True, 1.0, True),
        ({"OTEL_TRACES_SAMPLER": ""}, True, 1.0, True),
        ({"OTEL_SDK_DISABLED": "TRUE"}, False, 0.0, True),
        ({"OTEL_SDK_DISABLED": "1"}, True, 1.0, True),
        ({"OTEL_TRACES_SAMPLER": "always_off"}, True, 0.0, False),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, True, 0.0, True),
        (
            {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.25"},
            *(True, 0.25, False),
        ),
        (
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0.5"},
            *(True, 0.5, True),
        ),
    ],
)
def test_what_is_recorded(environment: dict[str, str], recording, ratio, parent):
    found = variables.sampling(environment)
    assert (found.recording, found.ratio, found.parent) == (recording, ratio, parent)
    assert found.complaints == ()


@pytest.mark.parametrize("argument", ["", "-1", "1.5", "nan", "half"])
def test_what_is_wrong_is_said_and_passes(argument: str):
    found = variables.sampling(
        {"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": argument}
    )
    assert (found.ratio, bool(found.complaints)) == (1.0, bool(argument))
    assert variables.sampling({"OTEL_TRACES_SAMPLER": "jaeger_remote"}).complaints


def test_nothing_is_sent_unless_the_variables_say_so():
    assert variables.export({}) is None
    assert variables.export({URL: ""}) is None
    assert variables.export({URL: "http://h:4318", "OTEL_SDK_DISABLED": "true"}) is None
    assert variables.export({URL: "http://h:4318", "OTEL_TRACES_EXPORTER": "none"}) is None


def test_where_and_how_it_is_sent():
    found = variables.export({URL: "http://h:4318/", "OTEL_EXPORTER_OTLP_TIMEOUT": "2500"})
    assert found is not None
    assert (found.url, found.timeout_s) == ("http://h:4318/v1/traces", 2.5)
    found = variables.export(
        {
            URL: "http://other",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://h/in?key=secret",
            "OTEL_EXPORTER_OTLP_HEADERS": "a=b",
            "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "c=d%2Ce,broken",
        }
    )
    assert found is not None
    assert (found.url, found.headers) == ("https://h/in?key=secret", {"c": "d,e"})
    assert "secret" not in found.shown
    assert found.complaints == ()


@pytest.mark.parametrize(
    ("more", "usable"),
    [
        ({"OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, True),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, True),
        ({URL: "collector:4317"}, False),
        ({URL: "file:///etc/passwd"}, False),
    ],
)
def test_what_cannot_be_heeded_is_said(more: dict[str, str], usable: bool):
    found = variables.export({URL: "http://h", **more})
    assert found is not None
    assert (bool(found.complaints), found.usable) == (True, usable)


def test_a_callers_wish_is_heeded_and_handed_on(monkeypatch: pytest.MonkeyPatch):
    unwanted = parse_traceparent(f"00-{'1' * 32}-{'2' * 16}-00")
    assert unwanted == TraceContext("1" * 32, "2" * 16, sampled=False)
    assert unwanted.child().traceparent.endswith("-00")
    monkeypatch.setattr(sampler, "ratio", 0.0)
    assert new_trace().sampled is False
    wanted = parse_traceparent(f"00-{'1' * 32}-{'2' * 16}-01")
    assert wanted is not None
    assert wanted.sampled
    monkeypatch.setattr(sampler, "parent", False)
    again = parse_traceparent(wanted.traceparent)
    assert again is not None
    assert not again.sampled


def test_share_is_decided_by_the_id_alone():
    half = Sampler()
    half.ratio = 0.5
    assert half.root("f" * 18 + "7" + "f" * 13)
    assert not half.root("0" * 18 + "8" + "0" * 13)
