"""What is shown of a mesh that has yet to answer."""

from __future__ import annotations

import pytest

from mesh.commands.pictured import awaited

NAMES = [f"service-{n}" for n in range(30)]


def text(rows):
    return ["".join(part if isinstance(part, str) else part[0] for part in row) for row in rows]


def test_every_name_is_shown_where_there_is_room():
    assert text(awaited("shop", ["auth", "user"], 23)) == [
        "mesh shop  begins",
        "  auth  starting",
        "  user  starting",
        "waiting for its first status   stop: Ctrl-C",
    ]


@pytest.mark.parametrize("rows_max", range(15))
def test_no_more_rows_than_fit(rows_max):
    """Or they could not be taken away again."""
    rows = text(awaited("shop", NAMES, rows_max))
    assert len(rows) == rows_max
    if rows_max > 3:
        assert rows[-2] == f"  and {30 - (rows_max - 3)} more"


def test_a_mesh_of_nothing_has_rows_too():
    assert len(awaited("shop", [], 23)) == 2
