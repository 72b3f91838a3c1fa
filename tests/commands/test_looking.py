"""What `ps`, `wait`, `logs`, `events` and `up` make of what they are told; no mesh runs."""

from __future__ import annotations

import json

import pytest

from mesh import clock
from mesh.buses.contract import NO_HASH, Event
from mesh.commands import lines, ps
from mesh.commands.cloudevents import Wanted, cloud_event
from mesh.commands.idle import Reading
from mesh.commands.progress import Progress
from mesh.errors import WrongUsage

REST = {
    "requests_begun": 5,
    "in_flight": 0,
    "commits": 7,
    "events_applied": 2,
    "outbox": {"epoch": 1, "head": 9, "acked": 9},
    "cursors": [],
    "deferred": {"due": 0, "dated": 3},
    "unsettled": 0,
    "parked": 0,
}


def reading(**changes) -> Reading:
    consumer = {**REST, "cursors": [{"stream": "product", "seq": 9}], **changes}
    return Reading({"product": REST, "order": consumer})


def test_a_mesh_at_rest_has_nothing_to_do_though_work_with_a_date_is_left():
    assert reading().busy() == []
    assert reading() == reading()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"in_flight": 2}, "order answers 2 requests"),
        ({"outbox": {"head": 9, "acked": 8}}, "order has told 9, the bus has 8"),
        ({"cursors": [{"stream": "product", "seq": 8}]}, "order has applied product up to 8 of 9"),
        ({"deferred": {"due": 1, "dated": 0}}, "order has 1 deferred actions due"),
        ({"unsettled": 4}, "order has 4 unsettled"),
    ],
)
def test_each_thing_that_is_left_to_do_is_named(changes, words):
    assert reading(**changes).busy() == [words]


def test_a_service_that_does_not_answer_is_not_at_rest():
    assert Reading({}, missing={"order": "does not answer"}).busy() == ["order does not answer"]
    assert Reading({}, skipped={"web": "serves no counters"}).busy() == []


def test_parked_events_and_unjudged_streams_are_told_but_no_hindrance():
    found = Reading({"order": {**REST, "parked": 2, "cursors": [{"stream": "auth", "seq": 1}]}})
    assert found.busy() == []
    assert found.parked == {"order": 2}
    assert found.unjudged == ["auth"]


def test_a_reading_of_any_shape_is_survived():
    odd = {"outbox": 7, "cursors": {"a": 1}, "deferred": None, "parked": "x", "in_flight": None}
    assert Reading({"web": odd}).busy() == []


def event(seq=1, event_type="product.stock_changed", **changes) -> Event:
    data = {"sku": "TEA", "on_hand": 3, "lines": [{"n": 1}], **changes.pop("data", {})}
    trace = {"traceparent": "00-a-b-01", "correlation": "a", "cause": "e0"}
    return Event(
        changes.get("stream", "product"), 1, seq, 1, NO_HASH, NO_HASH, bytes(15) + b"\1", event_type,
        "prd_1", 1000, json.dumps(trace).encode(), changes.get("body", json.dumps(data).encode()),
    )  # fmt: skip


def test_a_cloud_event_says_where_an_event_stands_and_comes_from():
    assert cloud_event(event(seq=12)) == {
        "specversion": "1.0",
        "id": "00000000-0000-0000-0000-000000000001",
        "source": "/product",
        "type": "product.stock_changed",
        "subject": "prd_1",
        "time": "1970-01-01T00:00:01.000Z",
        "datacontenttype": "application/json",
        "data": {"sku": "TEA", "on_hand": 3, "lines": [{"n": 1}]},
        "stream": "product",
        "epoch": 1,
        "sequence": "12",
        "traceparent": "00-a-b-01",
        "correlationid": "a",
        "causationid": "e0",
    }


def test_a_body_that_is_no_json_travels_whole():
    said = cloud_event(event(body=b"\xff\x00"))
    assert said["data_base64"] == "/wA="
    assert "data" not in said


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (Wanted(), True),
        (Wanted(type_glob="product.*"), True),
        (Wanted(type_glob="*.stock_?hanged"), True),
        (Wanted(type_glob="PRODUCT.*"), False),
        (Wanted(stream="order"), False),
        (Wanted(since_ms=1000), True),
        (Wanted(since_ms=1001), False),
        (Wanted(where=(("sku", "TEA"),)), True),
        (Wanted(where=(("data.sku", "TEA"),)), True),
        (Wanted(where=(("on_hand", "3"), ("subject", "prd_1"))), True),
        (Wanted(where=(("lines.0.n", "1"),)), True),
        (Wanted(where=(("lines.9.n", "1"),)), False),
        (Wanted(where=(("causationid", "e0"),)), True),
        (Wanted(where=(("sku", "MUG"),)), False),
    ],
)
def test_events_are_chosen_by_type_stream_time_and_member(wanted, takes):
    assert wanted.takes(event()) is takes
    assert wanted.filters is (wanted != Wanted())


OURS = '{"time":"2026-01-01T00:00:01Z","level":"warning","service":"x","message":"late","peer":"p"}'


def test_a_line_of_ours_is_taken_apart():
    line = lines.parse("order", OURS, 5)
    assert (line.service, line.message, line.level, line.at_ms) == ("order", "late", "warning", 5)
    assert line.facts == {"peer": "p"}
    assert lines.as_json(line) == {
        "peer": "p",
        "service": "order",
        "time": "1970-01-01T00:00:00.005Z",
        "level": "warning",
        "message": "late",
    }


@pytest.mark.parametrize(
    ("text", "level"),
    [
        ("2026-01-01 ERROR disk", "error"),
        ("[WARN] low", "warning"),
        ("npm err! code", "error"),
        ("plain words", None),
        ("x" * 90 + " ERROR", None),
        ('{"not": "ours"}', None),
        ("{broken", None),
        ("{" * 100_000, None),
    ],
)
def test_a_line_of_another_program_stays_as_it_is(text, level):
    line = lines.parse("web", text, None)
    assert (line.message, line.level, line.facts) == (text, level, {})


@pytest.mark.parametrize(
    ("wanted", "takes"),
    [
        (lines.Wanted(), True),
        (lines.Wanted(since_ms=5), True),
        (lines.Wanted(since_ms=6), False),
        (lines.Wanted(until_ms=4), False),
        (lines.Wanted(level="warning"), True),
        (lines.Wanted(level="error"), False),
    ],
)
def test_lines_are_chosen_by_time_and_level(wanted, takes):
    assert wanted.takes(lines.parse("order", OURS, 5)) is takes


def test_a_moment_is_a_time_or_how_long_ago():
    assert lines.parse_moment("10m", 1_000_000) == 400_000
    assert lines.parse_moment("1970-01-01T00:00:02Z", 0) == 2000
    with pytest.raises(WrongUsage):
        lines.parse_moment("soon", 0)


def write_log(here, name, *texts):
    (here / "data" / "logs").mkdir(parents=True, exist_ok=True)
    (here / "data" / "logs" / f"{name}.log").write_text("".join(f"{text}\n" for text in texts))


def ours(second, message, level="info"):
    return json.dumps(
        {"time": f"2026-01-01T00:00:{second:02d}Z", "level": level, "message": message}
    )


def test_logs_are_merged_by_time(mesh, here):
    write_log(here, "order", ours(1, "a"), "traceback of a", ours(4, "d"))
    write_log(here, "product", ours(2, "b"), ours(3, "c", "error"))
    write_log(here, "mesh", ours(0, "the supervisor's own"))
    done = mesh("logs")
    assert done.out.splitlines() == [
        "order   | a",
        "order   | traceback of a",
        "product | b",
        "product | error c",
        "order   | d",
    ]
    assert mesh("logs", "mesh").out == "mesh | the supervisor's own\n"


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        (["-n", "1"], ["c", "d"]),
        (["-n", "0"], []),
        (["order"], ["a", "traceback of a", "d"]),
        (["--since", "2026-01-01T00:00:03Z"], ["c", "d"]),
        (["--until", "2026-01-01T00:00:01Z"], ["a", "traceback of a"]),
        (["--level", "warn"], ["c"]),
        (["--search", "^[bd]$"], ["b", "d"]),
        (["--search", "a", "-n", "1"], ["traceback of a"]),
    ],
)
def test_logs_are_cut_and_filtered(mesh, here, args, messages):
    write_log(here, "order", ours(1, "a"), "traceback of a", ours(4, "d"))
    write_log(here, "product", ours(2, "b"), ours(3, "c", "error"))
    done = mesh("logs", "--json", *args)
    assert [json.loads(line)["message"] for line in done.out.splitlines()] == messages


@pytest.fixture
def cut(here):
    """Two logs that were cut: `web` tells no times, but when it had grown was noted."""
    folder = here / "data" / "logs"
    write_log(here, "order", ours(3, "c"), ours(5, "e"))
    first = "the beginning is gone\n" + ours(0, "kept") + "\n"
    (folder / "order.log.000000000000100").write_text(first)
    (folder / f"order.log.{100 + len(first):015d}").write_text(ours(1, "a") + "\n")
    (folder / "web.log.000000000000000").write_bytes(b"b\r\nd ERROR\r\n")
    (folder / "web.log").write_bytes(b"f\0\x1b[1m\xff")
    (folder / ".web.log.copy").write_text("nobody reads this\n")
    times = [clock.parse_iso(f"2026-01-01T00:00:{second:02d}Z") for second in (2, 4, 6)]
    notes = "".join(f"{at} {end}\n" for at, end in zip(times, (3, 12, 20), strict=True))
    (folder / "web.idx").write_text(notes)


@pytest.mark.parametrize(
    ("args", "messages"),
    [
        ([], ["kept", "a", "b", "c", "d ERROR", "e", "f\0\x1b[1m\\xff"]),
        (["-n", "2"], ["c", "d ERROR", "e", "f\0\x1b[1m\\xff"]),
        (["-n", "3", "order"], ["a", "c", "e"]),
        (["web", "--tail", "3"], ["b", "d ERROR", "f\0\x1b[1m\\xff"]),
        (["--since", "2026-01-01T00:00:04Z"], ["d ERROR", "e", "f\0\x1b[1m\\xff"]),
        (["--until", "2026-01-01T00:00:02.5Z", "web"], ["b"]),
        (["--level", "error"], ["d ERROR"]),
        (["--search", "^[abe]$", "-n", "1"], ["b", "e"]),
    ],
)
def test_logs_are_read_over_their_pieces_and_by_noted_times(mesh, cut, args, messages):
    done = mesh("logs", "--json", *args)
    assert [json.loads(line)["message"] for line in done.out.splitlines()] == messages
    assert done.err == ""


def test_what_is_missing_between_two_pieces_is_told(mesh, cut, here):
    folder = here / "data" / "logs"
    before, after = sorted(folder.glob("order.log.*"))
    after.rename(folder / "order.log.000000000001000")
    gap = 900 - before.stat().st_size + after.with_name("order.log.000000000001000").stat().st_size
    done = mesh("logs", "order")
    assert done.out.splitlines() == ["order | kept", "order | c", "order | e"]
    assert done.err == f"order: {gap} bytes were rotated away\n"
    done = mesh("logs", "order", "-n", "3")
    assert done.out.splitlines() == ["order | c", "order | e"]
    assert done.err == ""


def test_noted_times_are_shown_and_no_byte_of_a_program_reaches_the_terminal(mesh, cut):
    assert mesh("logs", "-t", "web").out.splitlines() == [
        "web | 2026-01-01T00:00:02.000Z b",
        "web | 2026-01-01T00:00:04.000Z d ERROR",
        "web | 2026-01-01T00:00:06.000Z f\\u0000\\u001b[1m\\xff",
    ]


def test_logs_can_be_read_although_the_file_is_broken(mesh, here):
    write_log(here, "order", "still here")
    (here / "mesh.yaml").write_text("broken: [")
    assert mesh("logs").out == "order | still here\n"


def test_columns_that_nobody_knows_are_left_out(capsys):
    ps.show([{"name": "web", "state": "ready", "pid": 7, "rss_bytes": 2**20, "cause": "ready"}])
    assert capsys.readouterr().out == "NAME  STATE  PID  MEMORY\nweb   ready  7    1M\n"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (4.9, "4s"), (75, "1m15s"), (11_100, "3h05m"), (200_000, "2d")],
)
def test_an_age_is_short(seconds, text):
    assert ps.age(seconds) == text


def row(name, state, cause="", url=None):
    return {"name": name, "state": state, "cause": cause, "url": url}


def moved(name, new, cause="", evidence=()):
    return {"name": name, "new": new, "cause": cause, "evidence": list(evidence)}


def test_progress_ends_when_everybody_is_up_done_or_failed(capsys):
    progress = Progress(["bus", "order", "once"], 0.0)
    rows = [
        row("bus", "ready"),
        row("order", "starting", url="http://o"),
        row("once", "stopped"),
        row("x", "ready"),
    ]
    progress.take({"services": rows})
    assert progress.pending == ["order", "once"]
    progress.take(moved("once", "ready"))
    progress.take(moved("once", "stopped", "exit 0"))
    progress.take(moved("order", "backoff", "exit 1"))
    assert progress.pending == ["order"]
    progress.take(moved("order", "failed", "exit 1; 5 failures in 60 s", ["boom"]))
    assert progress.pending == []
    assert progress.failed == {"order": "exit 1; 5 failures in 60 s"}
    assert progress.evidence == {"order": ("boom",)}
    progress.take(moved("order", "ready"))
    assert progress.failed == {}
    told = [line.split()[:2] for line in capsys.readouterr().err.splitlines()]
    assert told == [
        ["bus", "ready"],
        ["once", "ready"],
        ["once", "done"],
        ["order", "backoff"],
        ["order", "failed"],
        ["order", "ready"],
    ]  # fmt: skip
