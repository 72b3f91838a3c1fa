"""The exit status and the last words of a service that ends for a reason of its own."""

from __future__ import annotations

import os

import pytest

from mesh import snapshot
from mesh.errors import (
    BusUnavailable,
    DatabaseBroken,
    DatabaseDamaged,
    InvalidInput,
    SchemaMismatch,
)
from mesh.framework import ending

HINT = "`mesh restore NAME` puts a backup in its place"


@pytest.fixture
def data(tmp_path):
    """Three backups of which the last was never finished, and one that is being made."""
    for age, name in enumerate(("newer", "older", "half", ".new")):
        folder = tmp_path / "backups" / name
        folder.mkdir(parents=True)
        if name != "half":
            manifest = folder / "manifest.json"
            manifest.touch()
            os.utime(manifest, ns=(0, (10 - age) * 10**9))
    return tmp_path


@pytest.mark.parametrize(
    ("end", "error", "status"),
    [
        (ending.unstarted, InvalidInput("PORT is odd"), 78),
        (ending.unstarted, SchemaMismatch("newer"), 78),
        (ending.unstarted, DatabaseBroken("no"), 78),
        (ending.unstarted, BusUnavailable("away"), 1),
        (ending.broken_off, DatabaseDamaged("malformed"), 78),
        (ending.broken_off, DatabaseBroken("EIO in a commit"), 1),
        (ending.broken_off, OSError("EIO"), 1),
    ],
)
def test_exit_status_says_whether_starting_again_can_help(data, end, error, status):
    assert end(error, data / "order") == status


def test_last_words_name_the_newest_backup(data, caplog):
    for end in (ending.unstarted, ending.broken_off):
        end(DatabaseDamaged("order.db: malformed", hint=HINT), data / "order")
    for record in caplog.records:
        assert record.facts["hint"].startswith("`mesh restore newer` brings back the newest backup")
        assert record.facts["hint"].endswith(HINT)
    assert len(caplog.records) == 2


def test_without_a_backup_the_words_are_the_errors_own(tmp_path, caplog):
    ending.broken_off(DatabaseDamaged("malformed", hint=HINT), tmp_path / "order")
    assert caplog.records[0].facts["hint"] == HINT
    assert snapshot.way_back(tmp_path, None) is None
