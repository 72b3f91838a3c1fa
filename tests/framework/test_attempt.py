"""The mark of the event at work: it outlives its process, and only that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from mesh.framework.attempt import Attempt, AttemptMark

ROOT = Path(__file__).parents[2]


def test_mark_outlives_a_process_that_is_gone_in_an_instant(tmp_path):
    path = tmp_path / "order.attempt"
    code = (
        "import os, sys; from pathlib import Path; from mesh.framework.attempt import AttemptMark;"
        f"mark = AttemptMark(Path({str(path)!r})); mark.set('product', 2, 2**40); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 9
    mark = AttemptMark(path)
    assert mark.take() == Attempt("product", 2, 2**40)
    assert mark.take() is None, "taken once"
    mark.close()


def test_cleared_mark_names_nothing(tmp_path):
    mark = AttemptMark(tmp_path / "order.attempt")
    assert mark.take() is None
    mark.set("s" * 31, 1, 1)
    mark.clear()
    mark.close()
    assert AttemptMark(tmp_path / "order.attempt").take() is None


def test_mark_is_for_its_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        AttemptMark(tmp_path / "order.attempt").close()
    finally:
        os.umask(before)
    assert (tmp_path / "order.attempt").stat().st_mode & 0o777 == 0o600
