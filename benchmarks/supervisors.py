"""Our supervisor beside honcho, circus and supervisord, on the same four services and the bus.

    python benchmarks/supervisors.py [--runs 5] [--seconds 60] [--only mesh,honcho,circus,supervisord]

All of them run in the foreground with their output thrown away, and are ended by SIGTERM. The others
run each program as an interpreter of its own, with the environment that `mesh up` gives, the same
seeds and fresh identities (`launch.py`). Ready is when an outsider gets 200 of every service's
/readyz and can connect to the bus; stopped is when no process of it is left. Memory (PSS) and CPU
are those of every process that was started, the manager included. Runs are interleaved, each on
fresh data; told are medians, and CPU over so many seconds.

The others are installed into a virtual environment in the user's cache, never into the project.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402  after the path

from mesh.commands.programs import Programs  # noqa: E402  likewise
from mesh.commands.project import Options, Project  # noqa: E402  likewise
from mesh.orchestrator import plan  # noqa: E402  likewise
from tests.support import family  # noqa: E402  likewise
from tests.support.running import SHOP  # noqa: E402  likewise

if TYPE_CHECKING:
    from collections.abc import Callable

READY_S = 60.0
STOPPED_S = 30.0
SETTLE_S = 2.0
"""After ready and before memory and CPU are read: first checks and first keys are through then."""

PEERS = ("honcho", "circus", "supervisor")
SERVICES = ("auth", "user", "product", "order")


def cache() -> Path:
    """A virtual environment for what is compared with."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "mesh-benchmarks" / "supervisors"


def installed() -> dict[str, str]:
    """Why a package cannot be used, for those that cannot; the others are installed then."""
    home = cache()
    python = home / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    wrong = {}
    for package in PEERS:
        done = subprocess.run(
            [str(python), "-m", "pip", "install", "-q", package, "setuptools"],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            wrong[package] = "not installed: " + (done.stderr.strip().splitlines() or ["?"])[-1]
    return wrong


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in held]
    finally:
        for one in held:
            one.close()


@dataclass
class Stage:
    """One run's own directory with everything that any of them needs."""

    directory: Path
    ports: dict[str, int]
    sockets: Path
    programs: list[str]

    @property
    def specification(self) -> Path:
        return self.directory / "programs.json"

    def command(self, program: str) -> list[str]:
        script = str(ROOT / "benchmarks" / "launch.py")
        return [sys.executable, script, str(self.specification), program]


def stage(directory: Path, *, ours: bool) -> Stage:
    """Write what is to be run; identities, seeds and directories too unless `mesh up` makes them."""
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))
    for name, port in ports.items():
        config["services"][name]["port"] = port
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    project = Project(Options(), env={}, cwd=directory)
    found = Programs(project)
    names = [program.name for program in found.all]
    made = Stage(directory, ports, project.sockets, names)
    if ours:
        return made
    (project.data / "run").mkdir(parents=True)
    found.prepare()
    urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    specification = {
        program.name: {
            "entry": program.entry,
            "args": program.args,
            "environment": plan.environment(program, {}, urls, ports.get(program.name)),
        }
        for program in found.all
    }
    made.specification.write_text(json.dumps(specification), "utf-8")
    return made


def mesh(_: Stage) -> list[str]:
    return [sys.executable, "-m", "mesh", "up", "--plain"]


def honcho(stage: Stage) -> list[str]:
    lines = [f"{name}: exec {' '.join(stage.command(name))}\n" for name in stage.programs]
    (stage.directory / "Procfile").write_text("".join(lines), "utf-8")
    return [str(cache() / "bin" / "honcho"), "start"]


def circus(stage: Stage) -> list[str]:
    sections = [
        "[circus]",
        "endpoint = ipc://circus.endpoint",
        "pubsub_endpoint = ipc://circus.events",
    ]
    for name in stage.programs:
        sections += [
            f"[watcher:{name}]",
            f"cmd = {' '.join(stage.command(name))}",
            "copy_env = True",
            "graceful_timeout = 10",
        ]
    (stage.directory / "circus.ini").write_text("\n".join(sections) + "\n", "utf-8")
    return [str(cache() / "bin" / "circusd"), "circus.ini"]


def supervisord(stage: Stage) -> list[str]:
    sections = ["[supervisord]", "nodaemon = true", "logfile = supervisord.log", "pidfile = pid"]
    for name in stage.programs:
        sections += [
            f"[program:{name}]",
            f"command = {' '.join(stage.command(name))}",
            "stopwaitsecs = 10",
        ]
    (stage.directory / "supervisord.conf").write_text("\n".join(sections) + "\n", "utf-8")
    return [str(cache() / "bin" / "supervisord"), "-c", "supervisord.conf"]


@dataclass
class Row:
    """One manager and what was measured of it."""

    name: str
    package: str | None
    command: Callable[[Stage], list[str]]
    wrong: str = ""
    ready_ms: list[float] = field(default_factory=list)
    stop_ms: list[float] = field(default_factory=list)
    pss_mib: list[float] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)
    processes: int = 0


def ready(stage: Stage) -> bool:
    """Whether all five answer somebody from outside."""
    for port in stage.ports.values():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5.0)
        try:
            connection.request("GET", "/readyz")
            if connection.getresponse().status != 200:
                return False
        except OSError:
            return False
        finally:
            connection.close()
    return any(path.name.startswith("bus.") for path in family.answering(stage.sockets))


def cpu_s(pids: set[int]) -> float:
    total = 0.0
    for pid in pids:
        times = psutil.Process(pid).cpu_times()
        total += times.user + times.system
    return total


def until(condition: Callable[[], bool], within_s: float) -> None:
    deadline_s = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline_s:
            raise TimeoutError(f"not within {within_s:.0f} s")
        time.sleep(0.005)


def measure(row: Row, seconds: float) -> None:
    """One run."""
    with tempfile.TemporaryDirectory() as folder:
        place = stage(Path(folder), ours=row.package is None)
        mark = family.new_mark()
        command = row.command(place)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("MESH_")}
        begun_s = time.monotonic()
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**inherited, **mark},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs = mark[family.MARK]
        try:
            until(lambda: ready(place), READY_S)
            row.ready_ms.append((time.monotonic() - begun_s) * 1e3)
            time.sleep(SETTLE_S)
            pids = family.living(theirs)
            row.processes = len(pids)
            row.pss_mib.append(
                sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / 2**20
            )
            before_s, since_s = cpu_s(pids), time.monotonic()
            time.sleep(seconds)
            used_s = cpu_s(pids) - before_s
            row.cpu_percent.append(100 * used_s / (time.monotonic() - since_s))
            stopping_s = time.monotonic()
            process.send_signal(signal.SIGTERM)
            until(lambda: not family.living(theirs), STOPPED_S)
            row.stop_ms.append((time.monotonic() - stopping_s) * 1e3)
        finally:
            for pid in family.living(theirs):
                os.kill(pid, signal.SIGKILL)
            process.wait()
            shutil.rmtree(place.sockets, ignore_errors=True)


def table(rows: list[Row]) -> str:
    lines = [
        f"{'':14}{'ready':>10}{'stop':>10}{'PSS':>11}{'idle CPU':>11}{'processes':>11}",
    ]
    for row in rows:
        if row.wrong:
            lines.append(f"{row.name:14}  {row.wrong}")
            continue
        ready_ms, stop_ms, pss_mib, cpu = map(
            statistics.median, (row.ready_ms, row.stop_ms, row.pss_mib, row.cpu_percent)
        )
        lines.append(
            f"{row.name:14}{ready_ms:7.0f} ms{stop_ms:7.0f} ms{pss_mib:7.1f} MiB{cpu:9.2f} %"
            f"{row.processes:11}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--only", default="mesh,honcho,circus,supervisord")
    chosen = parser.parse_args()
    wrong = installed()
    rows = [
        Row("mesh", None, mesh),
        Row("honcho", "honcho", honcho),
        Row("circus", "circus", circus),
        Row("supervisord", "supervisor", supervisord),
    ]
    rows = [row for row in rows if row.name in chosen.only.split(",")]
    for row in rows:
        row.wrong = wrong.get(row.package or "", "")
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    for number in range(chosen.runs):
        for row in rows:
            if row.wrong:
                continue
            try:
                measure(row, chosen.seconds)
            except (OSError, TimeoutError, psutil.Error) as error:
                row.wrong = f"did not run: {error}"
        print(f"run {number + 1} of {chosen.runs} done", file=sys.stderr, flush=True)
    for row in rows:
        figures.note(f"ready {row.name}", row.ready_ms)
    print(
        f"medians of {chosen.runs} interleaved runs, idle CPU over {chosen.seconds:.0f} s,"
        " per cent of one core"
    )
    print(table(rows))


if __name__ == "__main__":
    main()
