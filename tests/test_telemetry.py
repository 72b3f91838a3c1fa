"""Log lines as the supervisor and people read them, and the trace they carry."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh import telemetry
from mesh.telemetry import LINE_BYTES_MAX, TraceContext, facts, new_trace, parse_traceparent

ROOT = Path(telemetry.__file__).parents[1]
PROGRAM = """
import os
from mesh import telemetry
telemetry.setup_logging("shelf", level="INFO")
log = telemetry.logger("room")
"""


def told(code: str) -> list[str]:
    """The lines of standard error of a program of its own that logs."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + code],
        stderr=subprocess.PIPE,
        check=True,
        timeout=30,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    return done.stderr.decode("ascii").splitlines()


def test_record_is_one_object_on_one_line():
    (line,) = told(
        'log.warning("order %s: %s", "ord_1", "a\\nERROR forged\\r\\x1b[31m\\u202e\\u2028",'
        ' extra=telemetry.facts(order="ord_1", n=3))'
    )
    found = json.loads(line)
    assert found["message"] == "order ord_1: a\nERROR forged\r\x1b[31m\u202e\u2028"
    assert (found["level"], found["service"]) == ("warning", "shelf")
    assert (found["order"], found["n"]) == ("ord_1", 3)
    assert found["time"].endswith("Z")
    assert "trace_id" not in found
    assert line.isprintable()


def test_record_below_the_level_is_not_written():
    assert told('log.debug("quiet"); log.info("heard")')[0].count("heard") == 1


def test_record_carries_the_trace_of_its_task():
    (line,) = told(
        "telemetry.current_trace.set(telemetry.TraceContext('a' * 32, 'b' * 16)); log.info('x')"
    )
    found = json.loads(line)
    assert (found["trace_id"], found["span_id"]) == ("a" * 32, "b" * 16)


def test_record_carries_the_exception_on_the_same_line():
    (line,) = told(
        'try:\n    raise ValueError("a\\nb")\nexcept ValueError:\n    log.exception("failed")'
    )
    assert json.loads(line)["exception"].endswith("ValueError: a\nb")


@pytest.mark.parametrize(
    "code",
    [
        'log.error("x" * 100_000)',
        'log.error("\\U0001f600" * 100_000)',
        'log.error("m", extra=telemetry.facts(text="x" * 100_000, number=7))',
        'log.error("m", extra=telemetry.facts(many=list(range(50_000)), number=7))',
        'try:\n raise ValueError("x" * 100_000)\nexcept ValueError:\n log.exception("m")',
    ],
    ids=["message", "beyond ASCII", "fact", "list", "exception"],
)
def test_long_record_is_shortened_and_still_one_object(code):
    (line,) = told(code)
    assert len(line) <= LINE_BYTES_MAX
    found = json.loads(line)
    assert (found["level"], found["service"]) == ("error", "shelf")
    assert found["time"].endswith("Z")


def test_no_record_is_longer_than_the_bound():
    (line,) = told('log.error("x" * 100_000)')
    assert len(line) <= LINE_BYTES_MAX


def test_record_that_cannot_be_written_is_counted_and_harms_nobody():
    code = (
        'log.info("%d", "no number")\n'
        'log.info("x", extra=telemetry.facts(odd=object()))\n'
        "kept = os.dup(2); os.close(2)\n"
        'log.info("nowhere")\n'
        "os.dup2(kept, 2)\n"
        'log.info("dropped %d", telemetry.dropped())'
    )
    lines = told(code)
    assert [json.loads(line)["message"] for line in lines] == ["dropped 3"]


@given(st.text(max_size=80))
def test_traceparent_is_read_exactly_or_not_at_all(text):
    found = parse_traceparent(text)
    assert found is None or found.traceparent[:-2] == text[:-2]


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "0" * 16 + "-01",
        "01-" + "1" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16 + "-01\n",
        "00-" + "1" * 31 + "-" + "1" * 16 + "-01",
        "00-" + "1" * 32 + "-" + "1" * 16,
    ],
)
def test_malformed_traceparent_is_none(header):
    assert parse_traceparent(header) is None


def test_trace_goes_on_in_its_children():
    first = new_trace()
    child = first.child()
    assert parse_traceparent(first.traceparent) == first
    assert child.trace_id == first.trace_id
    assert child.span_id != first.span_id
    assert TraceContext("1" * 32, "2" * 16).traceparent == f"00-{'1' * 32}-{'2' * 16}-01"


async def test_trace_is_of_one_task_alone():
    seen = []

    async def work(trace: TraceContext) -> None:
        telemetry.current_trace.set(trace)
        await asyncio.sleep(0)
        seen.append(telemetry.current_trace.get() is trace)

    await asyncio.gather(*(work(new_trace()) for _ in range(3)))
    assert seen == [True] * 3
    assert telemetry.current_trace.get() is None


def test_facts_and_loggers_are_what_logging_takes(caplog):
    with caplog.at_level(logging.INFO):
        telemetry.logger("room").info("told", extra=facts(event="evt_1"))
    (record,) = caplog.records
    assert record.name == "mesh.room"
    assert record.facts == {"event": "evt_1"}
