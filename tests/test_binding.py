"""Values reach SQLite as they are, also those of which Python would make something else."""

from __future__ import annotations

import sqlite3

from mesh.binding import bind_as_they_are

VALUES = (None, b"", b"\0raw", "", "text", 1, 2**62, 0.5)


def test_values_are_stored_as_they_are():
    bind_as_they_are()
    bind_as_they_are()
    connection = sqlite3.connect(":memory:")
    found = [connection.execute("SELECT ?1, typeof(?1)", (each,)).fetchone() for each in VALUES]
    kinds = ["null", "blob", "blob", "text", "text", "integer", "integer", "real"]
    assert found == list(zip(VALUES, kinds, strict=True))
    connection.close()
