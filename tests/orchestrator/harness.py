"""A supervisor in a process of its own, as `mesh up` is, and what tests ask it.

Run as a script it is that process: it reads what to run from a file and prints how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import uuid
from pathlib import Path
from time import monotonic, sleep

from mesh import codec
from mesh.errors import MeshError, NotRunning
from mesh.orchestrator import state
from mesh.orchestrator.contract import Program
from mesh.orchestrator.host import supervise
from mesh.orchestrator.remote import Remote

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
MARK = "MESH_TEST_RUN"
LONG_S = 30.0
"""For whatever takes a moment, on a machine that stands still for seconds."""

SETTLED = frozenset({"ready", "degraded", "stopped", "failed"})


def program(name, entry=None, *args, **members):
    """A sample program; `port` and the like as in Program."""
    if entry is not None:
        members |= {"entry": f"sample:{entry}", "args": args}
    return Program(name=name, working_dir=str(PROGRAMS), **members)


def server(name, **members):
    """Any program, which listens on its own port."""
    command = (sys.executable, str(PROGRAMS / "server.py"))
    return program(name, command=command, port=0, socket="own", **members)


def eventually(condition, within_s=LONG_S):
    """The first true value of `condition`, asked every 5 ms."""
    until_s = monotonic() + within_s
    while not (value := condition()):
        assert monotonic() < until_s, f"not within {within_s} s"
        sleep(0.005)
    return value


def alive(pid):
    """Whether there is such a process, and it is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Mesh:
    """One supervisor and its programs, on a data folder of its own."""

    def __init__(self, directory, programs, **options):
        self.data = directory / "data"
        self.options = options
        self.programs = programs
        self.mark = uuid.uuid4().hex
        self.process = None

    def begin(self):
        """Start the supervisor; returns at once."""
        self.data.parent.mkdir(exist_ok=True)
        wanted = self.data.parent / f"programs-{self.mark}.json"
        wanted.write_bytes(codec.encode(self.programs))
        options = {"data_dir": str(self.data), "programs": str(wanted), **self.options}
        self.printed = self.data.parent / f"printed-{self.mark}"
        self.complained = self.data.parent / f"complained-{self.mark}"
        with self.printed.open("wb") as out, self.complained.open("ab") as err:
            self.process = self._begun(options, out, err)
        return self

    def _begun(self, options, out, err):
        return subprocess.Popen(
            [sys.executable, "-m", "tests.orchestrator.harness", json.dumps(options)],
            env=os.environ | {MARK: self.mark, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=err,
        )

    def up(self, *, within_s=LONG_S):
        """Start it, and wait until no program is on its way any more."""
        self.begin()
        eventually(self.answers, within_s)
        self.wait_for(lambda states: SETTLED.issuperset(states.values()), within_s)
        return self

    def answers(self):
        """The remote, as soon as it can be found."""
        assert self.process.poll() is None, self.printed.read_text() + self.complained.read_text()
        with contextlib.suppress(NotRunning):
            return self.remote

    @property
    def remote(self):
        return Remote.find(self.data)

    def row(self, name):
        return next(row for row in self.remote.status()["services"] if row["name"] == name)

    def states(self):
        return {row["name"]: row["state"] for row in self.remote.status()["services"]}

    def pid(self, name):
        return self.row(name)["pid"]

    def port(self, name):
        return self.row(name)["port"]

    def wait_for(self, holds, within_s=LONG_S):
        """Follow transitions until `holds(states)`; returns those seen."""
        seen = []
        watching = self.remote.watch(timeout_s=within_s)
        states = {row["name"]: row["state"] for row in next(watching)["services"]}
        while not holds(states):
            transition = next(watching)
            seen.append(transition)
            states[transition["name"]] = transition["new"]
        watching.close()
        return seen

    def wait_state(self, name, state, within_s=LONG_S):
        return self.wait_for(lambda states: states[name] == state, within_s)

    def get(self, name, timeout_s=LONG_S):
        """One HTTP exchange on a new connection; the body."""
        with socket.create_connection(("127.0.0.1", self.port(name)), timeout_s) as connection:
            connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while part := connection.recv(4096):
                answer += part
            return answer.rpartition(b"\r\n\r\n")[2].decode(errors="replace")

    def log(self, name):
        path = self.data / "logs" / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def noted(self, name):
        """What a sample program said about itself."""
        line = eventually(lambda: [x for x in self.log(name).splitlines() if x.startswith("{")])
        return json.loads(line[-1])

    def crash(self):
        """SIGKILL the supervisor."""
        self.process.kill()
        self.process.wait()

    def interrupt(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def outcome(self, within_s=LONG_S):
        """How the supervisor ended: what `supervise` returned or raised."""
        self.process.wait(within_s)
        return json.loads(self.printed.read_text())

    def family(self):
        """Every living process that descends from this supervisor, itself included."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"{MARK}={self.mark}".encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found

    def close(self):
        """End it the hard way if it still runs; then nothing of it may be left."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(LONG_S)
            self.process.kill()
        self.process.wait()
        eventually(lambda: not self.family())
        complaints = self.complained.read_text()
        assert not complaints, complaints

    def tidy(self):
        """Remove what a killed supervisor leaves to the next one."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(state.runtime_dir(self.data))


def end_of(pid, within_s=LONG_S):
    """Wait until this process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([descriptor], [], [], within_s)[0], f"{pid} lives"
    finally:
        os.close(descriptor)


def main():
    options = json.loads(sys.argv[1])
    programs = codec.decode(Path(options.pop("programs")).read_bytes(), list[Program])
    data = Path(options.pop("data_dir"))
    try:
        outcome = supervise(
            programs,
            project="test",
            data_dir=data,
            config_file="mesh.yaml",
            mint=lambda subject, audience: f"{subject} for {audience}",
            **options,
        )
    except MeshError as error:
        told = {"error": type(error).__name__, "detail": error.detail, "hint": error.hint}
        print(json.dumps(told | {"facts": error.facts}))
    else:
        print(codec.encode_text(outcome))


if __name__ == "__main__":
    main()
