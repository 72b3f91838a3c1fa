"""A start on a disk that is full, or fills up meanwhile: what is said names the disk and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

SPACE = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
UP = """
mount -t tmpfs -o size=$SIZE mesh data
test -z "$FILLED" || head -c "$FILLED" /dev/zero > data/ballast
code=0; "$0" -m mesh up -d --wait-timeout 30 || code=$?
"$0" -m mesh down > /dev/null 2>&1 || :
exit $code
"""


def up_on_a_disk_of(
    directory: Path, size: str, filled: str = ""
) -> subprocess.CompletedProcess[str]:
    """`mesh up -d` with its data on a file system of so many bytes, `filled` of them taken."""
    (directory / "data").mkdir()
    if subprocess.run(
        [*SPACE, f"mount -t tmpfs -o size=1m mesh {directory}/data"],
        capture_output=True,
        check=False,
    ).returncode:
        pytest.skip("no user namespaces here, so no small disk")
    chosen = {"SIZE": size, "FILLED": filled, "MESH_FREE_PORTS": "1", "NO_COLOR": "1"}
    return subprocess.run(
        [*SPACE, UP, sys.executable],
        cwd=directory,
        env={**os.environ, **chosen},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(("size", "filled"), [("64k", ""), ("20m", "20000k")])
def test_start_on_a_full_disk_is_refused_by_its_name(tmp_path: Path, size: str, filled: str):
    refused = up_on_a_disk_of(tmp_path, size, filled)
    assert refused.returncode == 1
    assert f"error: the disk of {tmp_path / 'data'} is full: " in refused.stderr
    assert "KiB are left  [storage-full]" in refused.stderr
    assert "hint: free some space there, or --data-dir on another disk" in refused.stderr
    assert "exit 1" not in refused.stderr, "nothing was started"


def test_start_that_fills_the_disk_says_so_where_no_log_can(tmp_path: Path):
    failed = up_on_a_disk_of(tmp_path, "1200k")
    assert failed.returncode in {4, 5}
    assert f"; the disk of {tmp_path / 'data'} is full: " in failed.stderr
    assert "hint: free some space there, or --data-dir on another disk" in failed.stderr
