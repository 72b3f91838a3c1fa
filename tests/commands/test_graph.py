from __future__ import annotations

import json

import pytest

from mesh.commands.drawing import ASCII, Box, picture

PASSING = """
┌─────┐    ┌───┐
│ o   │    │ u │
└─┬─┬─┘    └─┬─┘
  └┐│        │
   │└─────┬──┘
   ▼      │
 ┌───┐    │
 │ p │    │
 └─┬─┘    │
   └───┬──┘
       ▼
     ┌───┐
     │ a │
     └───┘
"""


def drawn(names: str, edges: str, width: int = 80) -> list[str]:
    """The picture of one-letter boxes; edges as `ab ac`."""
    pairs = [(edge[0], edge[1]) for edge in edges.split()]
    lines = picture({name: Box((name,)) for name in names}, pairs, width)
    assert lines is not None
    return ["".join(part if isinstance(part, str) else part[0] for part in line) for line in lines]


def test_boxes_stand_on_whom_they_ask():
    assert drawn("ab", "ab") == [
        "┌───┐",
        "│ a │",
        "└─┬─┘",
        "  ▼",
        "┌───┐",
        "│ b │",
        "└───┘",
    ]


def test_lines_to_one_box_join_and_pass_a_layer():
    assert drawn("oupa", "op oa pa ua") == PASSING.strip("\n").split("\n")


def crossings_and_ends(lines: list[str]) -> str:
    return "".join(sorted({char for line in lines for char in line} & set("╵╷╶╴")))


@pytest.mark.parametrize(
    ("names", "edges"),
    [
        ("abc", "ab ac bc"),
        ("abcd", "ac ad bc bd"),
        ("abcdef", "ab ac ad be ce df af bf"),
        ("abcdefgh", "ab bc cd de ef fg gh ah ag bf"),
        ("abcdefgh", "ae af ag ah be bf bg bh ce cf cg ch de df dg dh"),
        ("abc", "ab bc ca"),
        ("ab", "ab ba"),
        ("a", ""),
        ("abc", ""),
    ],
)
def test_each_line_begins_and_ends_at_something(names: str, edges: str):
    lines = drawn(names, edges, width=200)
    assert crossings_and_ends(lines) == "", "\n".join(lines)
    text = "".join(lines)
    assert all(text.count(name) == 1 for name in names)
    below = {edge[1] for edge in edges.split()}
    assert text.count("▼") >= len(below) - 1, "a cycle may leave one out"


def test_a_picture_too_wide_is_none():
    assert picture({name: Box((name,)) for name in "abcdefghijkl"}, [], 40) is None


def test_everything_drawn_has_an_ascii_form():
    for line in drawn("abcdef", "ab ac ad be ce df af bf"):
        assert line.translate(ASCII).isascii()


def test_graph_of_what_does_not_run(mesh, snapshot):
    done = mesh("graph")
    assert done.code == 0
    snapshot("graph", done)
    assert mesh("graph", "--ascii").out.isascii()


def test_graph_where_it_is_too_wide_lists_the_services(mesh, here, monkeypatch):
    monkeypatch.setenv("COLUMNS", "40")
    names = "".join(f"  s{n}: {{command: [cat]}}\n" for n in range(9))
    (here / "mesh.yaml").write_text(f"services:\n{names}")
    assert mesh("graph").out == "".join(f"○ s{n}  stopped\n" for n in range(9))


def test_moves_are_drawn_and_told_in_every_format(mesh, snapshot):
    snapshot("graph-moves", mesh("graph", "--moves", "order"))
    told = json.loads(mesh("graph", "--moves", "order", "--json").out)
    assert {row["name"] for row in told["states"] if row["initial"]} == {"pending"}
    first = next(row for row in told["moves"] if row["from"] is None)
    assert (first["cause"], first["to"]) == ("create", "pending")
    diagram = mesh("graph", "--moves", "order", "--format", "mermaid").out.splitlines()
    assert diagram[:2] == ["stateDiagram-v2", "  [*] --> pending : create"]
    assert "  rejected --> [*]" in diagram


def test_an_entity_that_nobody_has_is_answered_with_a_suggestion(mesh):
    done = mesh("graph", "--moves", "ordr")
    assert done.code == 2
    assert "did you mean `order`" in done.err


def test_graph_for_programs(mesh):
    told = json.loads(mesh("graph", "--json").out)
    assert told["schema"] == "mesh.graph/1"
    assert next(row for row in told["asks"] if row["from"] == "order")["to"] == "product"
    assert "hold" in told["asks"][0]["operations"]
    heard = {row["event"]: row["to"] for row in told["tells"]}
    assert heard["product.stock_changed"] == ["order"]
    chart = mesh("graph", "--format", "mermaid").out
    assert chart.startswith("flowchart TD\n")
    assert "product -.->|product.stock_changed| order" in chart
