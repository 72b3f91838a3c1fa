"""Completion in real shells: what the key would offer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import RunningMesh

BIN = Path(sys.executable).parent

BASH = """
eval "$(mesh completion bash)"
COMP_WORDS=({words}) COMP_CWORD={place}
_mesh_completion mesh
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def _bash(running: RunningMesh, *words: str) -> list[str]:
    """What bash offers in place of the last of these words."""
    quoted = " ".join(f"'{word}'" for word in ("mesh", *words))
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "--norc", "-c", BASH.format(words=quoted, place=len(words))],
        cwd=running.directory,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_commands_options_and_services(tmp_path: Path):
    running = RunningMesh(tmp_path)
    assert _bash(running, "co") == ["config", "completion"]
    assert _bash(running, "logs", "--s") == ["--since", "--search"]
    assert _bash(running, "restart", "") == ["auth", "user", "product", "order", "bus"]
    assert _bash(running, "explain", "or") == ["order"]
    assert _bash(running, "-f", "no-such-file.yaml", "restart", "") == []
    assert _bash(running, "call", "order", "") == []


def test_bash_completes_operations_and_fields_of_what_runs(tmp_path: Path):
    running = RunningMesh(tmp_path).up("product")
    try:
        assert "restock" in _bash(running, "call", "product", "")
        assert _bash(running, "call", "product", "rest") == ["restock"]
        fields = _bash(running, "call", "product", "restock", "delta=5", "")
        assert "reason=" in fields
        assert "delta=" not in fields
    finally:
        running.down()


@pytest.mark.parametrize(
    ("shell", "check"),
    [
        ("bash", ["bash", "-n", "/dev/stdin"]),
        ("zsh", ["zsh", "-n", "/dev/stdin"]),
        ("fish", ["fish", "--no-execute", "/dev/stdin"]),
    ],
)
def test_script_is_one_that_its_shell_accepts(tmp_path: Path, shell, check):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = RunningMesh(tmp_path).run("completion", shell).stdout
    assert "_MESH_COMPLETE" in script
    done = subprocess.run(
        check, input=script, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_unknown_shell_is_answered_with_those_there_are(tmp_path: Path):
    refused = RunningMesh(tmp_path).run("completion", "tcsh", exit_code=2).stderr
    assert "bash" in refused
