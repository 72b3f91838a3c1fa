"""The command as a process: what it makes of closed and full streams, and of an early Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import mesh
from tests.support.running import eventually

ROOT = Path(mesh.__file__).parents[1]
SLOW = "import pathlib, time\npathlib.Path(__file__).with_name('here').touch()\ntime.sleep(60)\n"


def shell(line: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", "-c", line.format(mesh=f"{sys.executable} -m mesh")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **more},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("streams", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_stream_leads_nowhere(tmp_path, streams):
    done = shell("{mesh} version " + streams, tmp_path)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert ("mesh " in done.stdout) == (">&-" not in streams.replace("2>&-", ""))


def test_a_full_output_is_no_bug(tmp_path):
    done = shell("{mesh} version > /dev/full", tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith("error: the output: no space left on device  [file-system]")


def test_ctrl_c_amid_the_imports_ends_it_without_a_word(tmp_path):
    (tmp_path / "click.py").write_text(SLOW)
    process = subprocess.Popen(
        [sys.executable, "-m", "mesh", "version"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  as a shell's foreground has it
    )
    try:
        eventually((tmp_path / "here").exists, within_s=30)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=30)
    finally:
        process.kill()
    assert (process.returncode, said) == (-signal.SIGINT, "")


def test_signs_are_ascii_where_the_terminal_is(tmp_path):
    program = r"from mesh.commands import output; output.out('\u2713 ok \u2026 \u2717 wrong \xe4')"
    plain = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "LC_ALL": "C"}
    done = shell(f'{sys.executable} -c "{program}"', tmp_path, **plain)
    assert done.stdout == "+ ok ... x wrong \\xe4\n"
