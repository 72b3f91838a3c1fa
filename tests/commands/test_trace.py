"""`mesh trace` reads files: pictures at two widths, lists, JSON, and what it refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mesh import codec
from mesh.commands import output
from mesh.dashboard import timeline
from mesh.tracing.store import COMMANDS, NEWER
from mesh.tracing.waterfall import waterfall
from tests.tracing.stories import BEFELL, ID, ORDER

if TYPE_CHECKING:
    from pathlib import Path

OTHER = "5" * 32


def picture(width: int, marks: timeline.Marks) -> list[str]:
    shown = timeline.lines(waterfall(ORDER, BEFELL), width=width, marks=marks)
    return ["".join(part if isinstance(part, str) else part[0] for part in line) for line in shown]


@pytest.mark.parametrize("width", [60, 80, 120, 300])
@pytest.mark.parametrize("marks", [timeline.UNICODE, timeline.ASCII])
def test_picture_fits_the_width(width: int, marks: timeline.Marks):
    assert max(map(output.cells, picture(width, marks))) <= width


def test_picture_in_ascii_is_ascii():
    assert "\n".join(picture(80, timeline.ASCII)).isascii()


@pytest.mark.parametrize("width", [80, 120])
def test_picture_is_as_it_was(width: int, kept):
    kept(f"waterfall-{width}", picture(width, timeline.UNICODE))


def test_picture_in_ascii_is_as_it_was(kept):
    kept("waterfall-80-ascii", picture(80, timeline.ASCII))


@pytest.mark.parametrize(
    ("us", "text"),
    [(0, "0us"), (999, "999us"), (1_000, "1.0ms"), (9_940, "9.9ms"), (28_400, "28ms")],
)
def test_durations_have_three_digits(us: int, text: str):
    assert timeline.duration(us) == text
    assert timeline.duration(1_230_000) == "1.23s"


@pytest.fixture
def told(here: Path) -> Path:
    """Spans on file as services and the command line leave them; nothing runs."""
    quick = [codec.replace(each, trace_id=OTHER) for each in ORDER if each.service == "product"]
    for each in [*ORDER, *quick]:
        folder = here / "data" / (COMMANDS if each.service == "mesh" else each.service)
        folder.mkdir(parents=True, exist_ok=True)
        row = [getattr(each, name) for name in codec.fields(type(each)) if name != "service"]
        with (folder / NEWER).open("ab") as file:
            file.write(codec.encode_lines([row]))
    (here / "data" / "logs").mkdir()
    (here / "data" / "logs" / "mesh.log").write_text(
        '{"time":"2026-09-21T14:13:20.129Z","message":"transition","name":"product","old":"ready",'
        '"new":"starting","cause":"signal 9","restarts":1}\n'
        '{"time":"2026-09-21T14:13:20.129Z","message":"transition","name":"order","old":"starting",'
        '"new":"ready","cause":"ready","restarts":0}\n'
        '{"time":"2026-09-21T14:13:20.128Z","message":"fault","kind":"kill","target":"product"}\n'
        "no JSON\n[]\n"
    )
    return here


def test_last_is_the_story_of_the_last_call(told: Path, mesh):
    done = mesh("trace", "--last")
    assert done.code == 0
    assert done.out.startswith(f"trace {ID}  13 spans  580ms  2026-09-21T14:13:20.000Z\n")
    assert "try 2" in done.out
    assert "ready -> starting: signal 9" in done.out
    assert "fault kill" in done.out
    assert "starting -> ready: ready" not in done.out, "a first start is no incident"


def test_prefix_of_an_id_is_enough(told: Path, mesh):
    assert mesh("trace", "4BF9").out == mesh("trace", ID).out == mesh("trace", "--last").out


def test_json_is_the_contracts(told: Path, mesh):
    story = json.loads(mesh("trace", ID, "--json").out)
    assert (story["schema"], story["trace_id"], story["duration_ms"]) == ("mesh.trace/1", ID, 580)
    first, *_ = story["spans"]
    assert first == {
        "span_id": "0000000000000001",
        "parent_id": None,
        "service": "mesh",
        "kind": "call",
        "name": "mesh call order create",
        "start_ms": 0.0,
        "duration_ms": 500.0,
        "status": "ok",
        "error": None,
        "attempt": 1,
        "critical": True,
        "attributes": {"service": "order", "method": "POST", "target": "/o", "status": 201},
    }
    failed = [(each["error"], each["attempt"]) for each in story["spans"] if each["error"]]
    assert failed == [("unavailable", 1)]
    assert story["incidents"] == [
        {"at_ms": 128.0, "program": "product", "what": "fault kill"},
        {"at_ms": 129.0, "program": "product", "what": "ready -> starting: signal 9"},
    ]


def test_list_has_the_latest_and_is_narrowed(told: Path, mesh):
    def ids(*args: str) -> list[str]:
        rows = json.loads(mesh("trace", *args, "--json").out)["traces"]
        return [row["trace_id"] for row in rows]

    assert ids() == [OTHER, ID]
    assert ids("--slowest") == [ID, OTHER]
    assert ids("--errors") == [ID]
    assert ids("--service", "order") == [ID]
    assert ids("-n", "1") == [OTHER]
    assert ids("--since", "1h") == []
    assert ID[:12] in mesh("trace").out


def test_hostile_names_do_not_reach_the_terminal(told: Path, mesh):
    evil = codec.encode_lines([[ID, "f" * 16, "", "server", "\x1b[2J\n\u202e", 1, 1, "\x07"]])
    (told / "data" / "order" / NEWER).write_bytes(evil)
    for args in (["trace"], ["trace", ID]):
        shown = mesh(*args).out
        assert not set(shown) & {"\x1b", "\x07", "\u202e"}


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["777"], 2, "no story '777' is recorded here"),
        ([ID, "--last"], 2, "either an id or --last"),
        ([""], 2, "2 ids begin with ''"),
        (["--since", "never"], 2, "`never` is no point in time"),
    ],
)
def test_what_cannot_be_shown_is_said(told: Path, mesh, args: list[str], code: int, said: str):
    done = mesh("trace", *args)
    assert (done.code, said in done.err) == (code, True), done.err


def test_nothing_recorded_is_said(here: Path, mesh):
    assert mesh("trace").code == 0
    assert "no such story is recorded here" in mesh("trace").err
    done = mesh("trace", "--last")
    assert (done.code, "no story is recorded here" in done.err) == (2, True)
