"""The shop under SIGKILL: a schedule is carried out while orders are placed, and all is counted.

What must hold is written in `Campaign`'s methods beside what they do; what does not hold becomes
a line in `wrongs`, so that a long run says everything that it found.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from subprocess import TimeoutExpired
from typing import TYPE_CHECKING

import yaml

from mesh.errors import NotRunning
from mesh.orchestrator.remote import Remote
from mesh.orchestrator.state import runtime_dir
from tests.support import family
from tests.support.buyer import Buyer
from tests.support.machine import Machine
from tests.support.running import SHOP, USUAL, RunningMesh, eventually
from tests.support.schedule import PROGRAMS, SERVICES, STARTER
from tests.support.tally import Tally, gaps

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from subprocess import Popen

    from tests.support.schedule import Step

ORPHANS_S = 1.0
"""Nothing of a mesh lives longer than its supervisor by more than this, on a machine that goes on:
who is killed in an fsync ends with it."""

BACK_S = 60.0
"""A killed program is back within its longest backoff, which is 10 s, and a start on a busy machine."""

UP_S = 60.0
"""Every `up` is ready within this, on a busy machine too; the figures say how much faster."""

END_S = 60.0
"""A command whose supervisor was killed says so and ends within this."""

PROCESSES = len(PROGRAMS) + 2
"""Programs, starter and supervisor: nobody else belongs to a mesh."""

REPORT_EVERY = 25


def shop(directory: Path, ports: list[int]) -> RunningMesh:
    """The shop on these ports, without a limit on crashes and with a mark of its own."""
    config = yaml.safe_load(SHOP.read_text("utf-8"))
    for service, port in zip(config["services"].values(), ports, strict=True):
        service |= {"restart": "always", "port": port}
    (directory / "mesh.yaml").write_text(yaml.safe_dump(config), "utf-8")
    environment = {**family.new_mark(), **USUAL, "MESH_FREE_PORTS": "0"}
    return RunningMesh(directory, environment=environment)


class Campaign:
    """One shop, one schedule, one tally."""

    def __init__(self, mesh: RunningMesh, say: Callable[[str], None]) -> None:
        """Nothing runs yet."""
        self.mesh = mesh
        self.buyer = Buyer(mesh)
        self.tally = Tally()
        self._say = say
        self._data = mesh.directory / "data"
        self._mark = mesh.environment[family.MARK]
        self._machine = Machine(mesh.directory)
        self._goes_on_s = self._machine.since_s

    def run(self, steps: list[Step]) -> None:
        """Everything from the first `up` to the last look; raises only when it cannot go on."""
        self.mesh.up()
        total = sum(len(step.victims) for step in steps)
        told = 0
        with self._machine, self.buyer:
            for step in steps:
                time.sleep(step.pause_s)  # accidents have their own time
                self._carry_out(step)
                if self.tally.total - told >= REPORT_EVERY:
                    told = self.tally.total
                    self._say(self.tally.so_far(total, self.buyer))
        self._look_at_the_end()

    def close(self) -> None:
        """End whatever a campaign that could not go on has left."""
        for pid in family.living(self._mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _carry_out(self, step: Step) -> None:
        match step.kind:
            case "supervisor":
                self._kill_supervisor(step)
            case "supervisor amid up":
                self._kill_amid_up(step)
            case "supervisor amid stop":
                self._kill_amid_stop(step)
            case "amid start-up":
                self._kill_amid_start(step)
            case _:
                self._kill_programs(step)

    # programs and the starter: they come back by themselves, and refuse nobody

    def _kill_programs(self, step: Step) -> None:
        """Kill all victims in one go; each is back, whatever order they come back in."""
        old = {victim: self._pid(victim) for victim in step.victims}
        killed_s = time.monotonic()
        for pid in old.values():
            os.kill(pid, signal.SIGKILL)
        with ThreadPoolExecutor(len(old)) as pool:
            took = pool.map(lambda item: self._back_s(*item) - killed_s, old.items())
            for victim, took_s in zip(old, took, strict=True):
                kind = victim if victim in {"bus", STARTER} else "service"
                self.tally.killed(kind if step.kind != "two at once" else step.kind, took_s)
        if STARTER in old:
            Remote.find(self._data).restart(["user"])  # only a starter that serves can do this
        self._all_ready()

    def _kill_amid_start(self, step: Step) -> None:
        """Kill a program, and its successor some milliseconds after that one's birth."""
        victim = step.victims[0]
        old = self._pid(victim)
        os.kill(old, signal.SIGKILL)
        self.tally.kills[step.kind] += 1
        if len(step.victims) > 1:
            old = eventually(lambda: self._successor(victim, old), BACK_S)
            time.sleep(step.moment_s)  # the moment that was drawn
            os.kill(old, signal.SIGKILL)
            killed_s = time.monotonic()
            self.tally.killed(step.kind, self._back_s(victim, old) - killed_s)
        self._all_ready()

    def _back_s(self, victim: str, old: int) -> float:
        """When the victim did its work again, on the monotonic clock."""
        if victim == STARTER:
            eventually(lambda: self._starters() - {old}, BACK_S)
        elif victim in SERVICES:
            eventually(lambda: self._answers(victim), BACK_S)
        else:
            eventually(lambda: self._ready(victim, old), BACK_S)
        return time.monotonic()

    def _answers(self, service: str) -> bool:
        """Whether it answers a new connection, which waits for it; it must not be refused."""
        try:
            return self.mesh.ask(service, "GET", "/readyz", timeout_s=BACK_S).status == 200
        except ConnectionRefusedError:
            self.tally.wrongs.append(f"{service} refused a connection while it came back")
            raise
        except (OSError, ValueError, http.client.HTTPException):
            return False

    def _supervisor(self) -> int:
        return Remote.find(self._data).run["pid"]

    def _starters(self) -> set[int]:
        programs = {int(str(row["pid"])) for row in self._rows().values() if row["pid"]}
        return family.starters(self._supervisor(), programs)

    def _rows(self) -> dict[str, dict[str, object]]:
        return {str(row["name"]): row for row in Remote.find(self._data).status()["services"]}

    def _ready(self, program: str, old: int) -> bool:
        row = self._rows()[program]
        return row["state"] == "ready" and row["pid"] != old

    def _successor(self, program: str, old: int) -> int | None:
        pid = self._rows()[program]["pid"]
        return int(str(pid)) if pid not in {None, old} else None

    def _pid(self, victim: str) -> int:
        if victim == STARTER:
            return next(iter(self._starters()))
        return int(str(eventually(lambda: self._rows()[victim]["pid"], BACK_S)))

    def _all_ready(self) -> None:
        eventually(
            lambda: all(row["state"] == "ready" for row in self._rows().values()), 2 * BACK_S
        )

    # the supervisor: everything goes with it, and nothing stands in the way of the next

    def _kill_supervisor(self, step: Step) -> None:
        with self.buyer.closed():
            self._end_with(os.pidfd_open(self._supervisor()), step.kind, at_once=step.at_once)

    def _kill_amid_up(self, step: Step) -> None:
        """Kill a supervisor some milliseconds after its birth; `up` says so, or was faster."""
        with self.buyer.closed():
            self.mesh.down()
            up = self.mesh.start("up", "-d")
            born = eventually(lambda: family.children(up.pid), END_S)
            supervisor = os.pidfd_open(born.pop())
            time.sleep(step.moment_s)  # the moment that was drawn
            self._end_with(supervisor, step.kind, beside=up)

    def _kill_amid_stop(self, step: Step) -> None:
        """Kill it while its programs stop; `down` says so, or was faster."""
        with self.buyer.closed():
            supervisor = os.pidfd_open(self._supervisor())
            down = self.mesh.start("down")
            eventually(self._stopping, END_S)
            time.sleep(step.moment_s / 2)  # the moment that was drawn, amid what takes 0.2 s
            self._end_with(supervisor, step.kind, beside=down)

    def _stopping(self) -> bool:
        try:
            return any(row["state"] == "stopping" for row in self._rows().values())
        except NotRunning:
            return True

    def _end_with(
        self,
        supervisor: int,
        kind: str,
        *,
        at_once: bool = False,
        beside: Popen[str] | None = None,
    ) -> None:
        """Kill it; a second later nothing of it lives or listens, and the next is ready.

        Args:
            supervisor: a pidfd, closed here.
            at_once: the next `up` waits for nothing.
            beside: the command that was under way; it has to end well or say what happened.
        """
        ours = {beside.pid} if beside is not None else set()
        theirs = family.living(self._mark) - ours
        sockets = family.sockets(theirs)
        killed_s = time.monotonic()
        try:
            signal.pidfd_send_signal(supervisor, signal.SIGKILL)
            self.tally.kills[kind] += 1
        except ProcessLookupError:
            self.tally.missed += 1  # it had ended by itself
        finally:
            os.close(supervisor)
        up = self.mesh.start("up", "-d") if at_once else None
        begun_s = killed_s

        def left() -> set[int]:
            now = family.living(self._mark) - ours
            return now & theirs if at_once else now

        def open_still() -> set[str]:
            """A process is a zombie before its last thread has let go of its sockets."""
            paths = set() if at_once else {*map(str, family.answering(runtime_dir(self._data)))}
            return family.listening(sockets) | paths

        def in_time() -> bool:
            if time.monotonic() - killed_s < ORPHANS_S:
                return True
            return time.monotonic() - killed_s < END_S and self._goes_on_s(killed_s) < ORPHANS_S

        while (left() or open_still()) and in_time():
            time.sleep(0.005)
        self._look_for_leftovers(left(), open_still())
        self.tally.gone_ms.append((time.monotonic() - killed_s) * 1e3)
        if beside is not None:
            self._ended(beside)
        if up is None:
            begun_s = time.monotonic()
            up = self.mesh.start("up", "-d")
        self._is_up(up, begun_s)

    def _look_for_leftovers(self, left: set[int], sockets: set[str]) -> None:
        for pid in left:
            self.tally.orphans += 1
            self.tally.wrongs.append(f"an orphan a second later: {pid} {family.command_line(pid)}")
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for address in sorted(sockets):
            self.tally.stale += 1
            self.tally.wrongs.append(f"a socket that still listens: {address}")

    def _ended(self, command: Popen[str]) -> None:
        """A command that lost its supervisor: bounded, and without a traceback."""
        what = " ".join(map(str, command.args[2:])) if isinstance(command.args, list) else ""
        try:
            out, err = command.communicate(timeout=END_S)
        except TimeoutExpired:
            command.kill()
            command.communicate()
            self.tally.wrongs.append(
                f"{what} hung for {END_S:.0f} s after its supervisor was killed"
            )
            return
        if command.returncode not in {0, 3, 5} or "Traceback" in err:
            self.tally.wrongs.append(f"{what} ended with {command.returncode}: {out}{err}")

    def _is_up(self, up: Popen[str], begun_s: float) -> None:
        """The next one is ready, at once: nothing that the last one left stands in its way."""
        try:
            out, err = up.communicate(timeout=UP_S)
        except TimeoutExpired:
            up.kill()
            out, err = up.communicate()
        if up.returncode != 0:
            self.tally.stale += 1
            raise AssertionError(
                f"`mesh up -d` after a kill ended with {up.returncode}:\n{out}{err}{self.mesh.logs()}"
            )
        self.tally.up_ms.append((time.monotonic() - begun_s) * 1e3)

    # the end

    def _look_at_the_end(self) -> None:
        """Everything runs, nobody else does, and nothing accepted is missing or there twice."""
        self._all_ready()
        self.mesh.idle()
        self.tally.wrongs += self.buyer.wrongs
        self.tally.wrongs += self._ended_by_themselves()
        living = family.living(self._mark)
        if len(living) != PROCESSES:
            self.tally.wrongs.append(
                f"{PROCESSES} processes expected: {[*map(family.command_line, living)]}"
            )
        found = sorted(str(item["id"]) for item in self.mesh.placed("alice"))
        placed = sorted(self.buyer.placed.values())
        if found != placed:
            self.tally.wrongs.append(
                f"{len(placed)} orders were placed, {len(found)} are there;"
                f" missing {sorted(set(placed) - set(found))}, more {sorted(set(found) - set(placed))}"
            )
        self.tally.wrongs += gaps(
            self.mesh.lines("events", "tail", "--no-follow", "-n", "10000000")
        )
        self.mesh.down()
        if left := family.living(self._mark):
            self.tally.wrongs.append(
                f"still there after `down`: {[*map(family.command_line, left)]}"
            )

    def _ended_by_themselves(self) -> list[str]:
        """Programs that ended for another reason than being killed or asked."""
        log = (self._data / "logs" / "mesh.log").read_text("utf-8")
        told = [json.loads(line) for line in log.splitlines() if '"transition"' in line]
        return [
            f"{one['name']} ended by itself: {one['cause']} {one['evidence'][-1:]}"
            for one in told
            if one["new"] in {"backoff", "failed", "starting", "stopping"}
            if one["cause"].startswith(("exit", "watchdog", "start timeout"))
        ]
