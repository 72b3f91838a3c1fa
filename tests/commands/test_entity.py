"""What a service tells of one entity, as lines and tables, whatever it is."""

from __future__ import annotations

import pytest

from mesh.commands import entity, output

TOLD = {
    "id": "ord_1",
    "status": "paid",
    "reason": "payment captured",
    "waits_for": None,
    "total_minor": 2470,
    "note": None,
    "hold": {"state": "committed", "version": 1, "why": None},
    "roles": ["staff", "admin"],
    "owed": [],
    "possible": [
        {"move": "ship", "to": "shipped", "by": ["staff"], "hint": None},
        {"move": "cancel", "to": "cancelled", "by": ["owner", "staff"], "hint": None},
    ],
}


def test_facts_become_lines_and_lists_tables(capsys):
    entity.show(TOLD)
    assert capsys.readouterr().out.splitlines() == [
        "ord_1 is paid: payment captured",
        "  waits for   nothing",
        "  total minor 2470",
        "  hold        committed, version 1",
        "  roles       staff, admin",
        "",
        "possible",
        "  MOVE    TO         BY",
        "  ship    shipped    staff",
        "  cancel  cancelled  owner, staff",
    ]


@pytest.mark.parametrize(
    "told",
    [{}, {"id": 1}, {"rows": [1, {"a": {"b": []}}]}, {"hold": {}}, {"rows": [[]]}, {"a": {"b": 1}}],
)
def test_whatever_a_stranger_tells_is_shown(told, capsys):
    entity.show(told)
    assert capsys.readouterr().out


def test_long_table_is_cut_and_says_so(capsys):
    entity.show({"id": "x", "rows": [{"n": n} for n in range(entity.ROWS_MAX + 3)]})
    assert capsys.readouterr().out.endswith("and 3 more\n")


def test_no_control_byte_reaches_the_terminal(capsys):
    evil = "\x1b]0;owned\x07\x9b31m\u202e"
    output.configure("always")
    try:
        entity.show({"id": evil, evil: evil, "rows": [{evil: evil}], "hold": {"state": evil}})
    finally:
        output.configure("auto")
    shown = capsys.readouterr().out
    assert "\x07" not in shown
    assert "\x9b" not in shown
    assert "\u202e" not in shown
    assert "]0;owned" in shown
    assert "\x1b]" not in shown
