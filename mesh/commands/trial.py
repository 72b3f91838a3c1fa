"""One run of `mesh exercise` against the mesh that runs here: its means, and how it goes on.

Everything is done by what the command line has already: documents as `mesh call` reads them, faults
as `mesh chaos` makes them, rest as `mesh wait` sees it, promises as `mesh verify` asks them.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cached_property
from time import sleep
from typing import TYPE_CHECKING

import uvloop

from mesh import clock, codec
from mesh.commands import chaos as means
from mesh.commands import output, verify, wait
from mesh.commands.caller import Speakers, seeded_users
from mesh.commands.peers import Peers
from mesh.errors import MeshError, NotRunning, ProgramFailed, ServiceUnavailable
from mesh.exercise import checker, facts, history, plan, report
from mesh.exercise.chaos import Chaos, Targets
from mesh.exercise.load import Load
from mesh.exercise.scenario import Person, Route
from mesh.exercise.tally import Tally
from mesh.exercise.wire import Wire
from mesh.orchestrator import state

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mesh.commands.operations import Document, Operation
    from mesh.commands.project import Project
    from mesh.exercise.chaos import Fault
    from mesh.exercise.scenario import Scenario

ASK_S = 5.0
"""For a document or a token, on a machine that a run keeps busy."""

UP_S = 60.0
"""For the mesh to be up again after its supervisor was killed, and for programs after faults."""

IDLE_S = 90.0
"""For everything that is under way to come to its end: a backoff of 10 s, several times."""

GONE_S = 10.0
"""For a killed supervisor's programs to be gone: they are within a second."""

PATIENCE_S = 20.0
"""How long a visitor repeats a request while things are broken on purpose."""

DRAW_S = 0.25
TELL_S = 5.0
"""Between two looks at a run on a terminal, and between two lines elsewhere."""

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

FOLDER = "exercise"
"""Of evidence, in the data folder."""


@dataclass(frozen=True)
class Wanted:
    """What a run is to be."""

    scenarios: tuple[Scenario, ...]
    rate: float
    duration_s: float
    ramp_s: float
    seed: int
    faults: tuple[Fault, ...]


@dataclass
class Trial:
    """The means of one run."""

    project: Project
    name: str = field(default_factory=lambda: f"x{clock.random_hex(4)}")
    tally: Tally = field(default_factory=Tally)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    interrupted: bool = False
    _up_before: tuple[str, ...] = ()
    _documents: dict[str, Document] = field(default_factory=dict)

    # What there is

    @cached_property
    def people(self) -> list[Person]:
        """Those whom the configuration plants."""
        seeds = seeded_users(self.project.data / "run" / "seed")
        return [Person(each.login, each.roles) for each in seeds]

    @cached_property
    def routes(self) -> dict[str, Route]:
        """Every operation of every running service that has a document, by `SERVICE.OPERATION`."""
        found: dict[str, Route] = {}
        for service in Peers(self.project, ASK_S).urls:
            with contextlib.suppress(ServiceUnavailable, NotRunning):
                for operation in self._document(service).operations.values():
                    made = _route(service, operation)
                    found[made.label] = made
        return found

    @property
    def targets(self) -> Targets:
        """Whom faults can hit: what runs."""
        rows = self.project.remote().status()["services"]
        running = [str(row["name"]) for row in rows if row["state"] in wait.UP]
        ours = self.project.config.services
        inside = [name for name in running if name in ours and ours[name].module]
        return Targets(tuple(running), tuple(inside))

    @cached_property
    def folder(self) -> Path:
        """The run's evidence."""
        folder = self.project.data / FOLDER / self.name
        folder.mkdir(mode=0o700, parents=True)
        return folder

    def _document(self, service: str) -> Document:
        if service not in self._documents:
            self._documents[service] = Peers(self.project, ASK_S).document(service)
        return self._documents[service]

    def token(self, login: str) -> str:
        """A token of a seeded user. Raises: NotRunning, ServiceUnavailable, NotFound."""
        urls = self.project.running().services
        seeds = seeded_users(self.project.data / "run" / "seed")
        speakers = Speakers(self.project.remote().token, self._document, urls, seeds, ASK_S)
        return speakers.user(login).bearer or ""

    # Faults and what mends them

    def inflict(self, fault: Fault) -> None:
        """Break something for a while. Raises: as `mesh chaos`."""
        asked = {"kind": fault.kind, "target": fault.target, "for_s": fault.for_s}
        asked |= {"rate": fault.rate, "seed": fault.seed}
        means.inflict(self.project, asked | ({"ms": fault.ms} if fault.ms else {}))

    def fell(self, wire: Wire | None = None) -> None:
        """Kill the supervisor, which takes everything with it, and bring up again what ran, as it was begun.

        Its ports may be others then: `wire` is told, even if not everything came up.

        Raises: ProgramFailed, with what `mesh up` said.
        """
        remote = self.project.remote()
        options = remote.run.get("options", [])
        known = self.project.programs
        names = [
            str(row["name"])
            for row in remote.status()["services"]
            if row["state"] != "stopped" and row["name"] in known
        ]
        os.kill(int(remote.run["pid"]), signal.SIGKILL)
        until_s = clock.monotonic_s() + GONE_S
        while state.running(self.project.data) is not None and clock.monotonic_s() < until_s:
            sleep(wait.POLL_S)
        try:
            self._up("--no-deps", *options, *names)
        finally:
            if wire is not None:
                with contextlib.suppress(NotRunning):
                    wire.urls = dict(self.project.running().services)

    def _up(self, *words: str) -> None:
        """`mesh up -d` as a process of its own. Raises: ProgramFailed."""
        try:
            done = subprocess.run(  # noqa: S603  our own program
                [*self._command(), "up", "-d", *words],
                capture_output=True,
                text=True,
                check=False,
                timeout=UP_S,
                start_new_session=True,  # a Ctrl-C ends the run, and leaves the mesh up
            )
        except subprocess.TimeoutExpired:
            raise ProgramFailed(f"the mesh did not come up within {UP_S:g} s") from None
        if done.returncode:
            raise ProgramFailed("the mesh did not come up again", evidence=(done.stderr.strip(),))

    def _command(self) -> list[str]:
        """This very command line's beginning."""
        options = self.project.options
        words = [sys.executable, "-m", "mesh"]
        for option, value in (
            ("--file", options.file),
            ("--project-name", options.name),
            ("--data-dir", options.data),
        ):
            words += [option, value] if value else []
        return words

    def heal(self) -> str:
        """End every fault, have up again what was, and everything at rest; what that took, in words.

        Raises: ProgramFailed, DeadlineExceeded, NotRunning.
        """
        begun_s = clock.monotonic_s()
        means.mend(self.project, ())
        rows = self.project.remote().status()["services"]
        ours = [row for row in rows if row["name"] in self._up_before]
        failed = [str(row["name"]) for row in ours if row["state"] == "failed"]
        if failed:
            self.project.remote().start(failed)
        ready, ready_s = wait.until(lambda: wait.ready(self.project, self._up_before), UP_S)
        if not ready.reached:
            raise ProgramFailed("not everything came back", evidence=tuple(ready.missing))
        idle, _ = wait.until(wait.Idle(self.project), IDLE_S)
        if not idle.reached:
            raise ProgramFailed("it does not come to rest", evidence=tuple(idle.missing))
        again = f"{', '.join(failed)} started again, " if failed else ""
        took_s = clock.monotonic_s() - begun_s
        return f"{again}all ready after {ready_s:.1f} s, at rest after {took_s:.1f} s"

    def let_go(self) -> str:
        """End every fault, and judge nothing; in words."""
        try:
            ended, _ = means.mend(self.project, ())
        except MeshError as error:
            return f"faults end at their deadline: {error}"
        return f"{ended} faults were under way and are ended" if ended else "nothing is left broken"

    # The run

    def run(self, wanted: Wanted, progress: output.Live) -> report.Run:
        """Let everybody in, and break what is to be broken; nothing is judged yet.

        Raises: NotRunning; Broken, WrongUsage (a scenario is wrong); StorageFull.
        """
        run = report.Run(
            what=wanted.scenarios[0].name if len(wanted.scenarios) == 1 else "all scenarios",
            seed=wanted.seed,
            rate=wanted.rate,
            duration_s=wanted.duration_s,
            tally=self.tally,
        )
        self._up_before = self.targets.programs
        before = os.times()
        try:
            with (
                contextlib.redirect_stdout(sys.stderr),  # a scenario may print
                asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
            ):
                runner.run(self._run(wanted, run, progress))
        except BaseExceptionGroup as group:
            raise _first(group) from None
        after = os.times()
        cpu_s = after.user + after.system - before.user - before.system
        run.cpu_percent = 100 * cpu_s / run.took_s if run.took_s else 0.0
        run.interrupted = self.interrupted
        return run

    async def _run(self, wanted: Wanted, run: report.Run, progress: output.Live) -> None:
        loop = asyncio.get_running_loop()
        ending = [each for each in ENDING if signal.getsignal(each) != signal.SIG_IGN]
        for number in ending:
            loop.add_signal_handler(number, self._interrupt, loop, ending)
        patience_s = PATIENCE_S if wanted.faults else 0.0
        file = (self.folder / history.FILE).open("xb", buffering=1024 * 1024)
        with contextlib.closing(history.Recorder(file)) as recorder:
            wire = Wire(
                self.project.running().services,
                self.token,
                recorder,
                self.tally,
                patience_s=patience_s,
            )
            async with wire:
                await wire.warm([person.login for person in self.people])
                load = Load(wanted.scenarios, wire, self.tally, self.routes, self.people, self.name)
                chaos = Chaos(
                    wanted.faults, self.inflict, lambda: self.fell(wire), wanted.duration_s
                )
                run.faults = chaos.done
                arrivals = plan.arrivals(
                    wanted.scenarios,
                    rate=wanted.rate,
                    duration_s=wanted.duration_s,
                    ramp_s=wanted.ramp_s,
                    seed=wanted.seed,
                )
                async with asyncio.TaskGroup() as group:
                    group.create_task(chaos.run(wire.begun_s, self.stop))
                    watch = group.create_task(self._watch(wanted, load, chaos, wire, progress))
                    try:
                        await load.run(arrivals, self.stop, patience_s, wanted.duration_s)
                    finally:
                        run.took_s = clock.monotonic_s() - wire.begun_s
                        watch.cancel()
                progress.clear()

    def _interrupt(self, loop: asyncio.AbstractEventLoop, ending: Sequence[signal.Signals]) -> None:
        """The first Ctrl-C or hang-up ends the run; the second is nobody's to hold up."""
        self.interrupted = True
        self.stop.set()
        for number in ending:
            loop.remove_signal_handler(number)

    async def _watch(
        self, wanted: Wanted, load: Load, chaos: Chaos, wire: Wire, progress: output.Live
    ) -> None:
        """Tell how it goes: drawn again and again on a terminal, a line now and then elsewhere."""
        while True:
            await asyncio.sleep(DRAW_S if progress.drawn else TELL_S)
            at_s = clock.monotonic_s() - wire.begun_s
            last = chaos.done[-1].fault if chaos.done else None
            told = f"{last.kind} {last.target} at {last.at_s:.0f} s" if last else ""
            drawn = report.live(self.tally, at_s, wanted.duration_s, load.inside, told)
            if progress.drawn:
                progress.show(drawn)
            else:
                output.note(*drawn[0], "  ", *drawn[1])

    # The verdict

    def judge(self, run: report.Run, progress: output.Live) -> None:
        """Heal, wait for rest, and judge the history and every promise on copies of one cut."""
        try:
            progress.show(["healing, and waiting for rest"])
            run.healed = self.heal()
        except MeshError as error:
            run.not_healed = "; ".join((error.detail, *error.evidence))
        try:
            self._judge(run, progress)
        except MeshError as error:  # the report tells all the same what was done
            run.not_judged = "; ".join((error.detail, *error.evidence))
        progress.clear()

    def _judge(self, run: report.Run, progress: output.Live) -> None:
        with verify.copies(self.project) as folder:
            run.checks = verify.judged(self.project, folder, progress)
            progress.show(["judging the history"])
            there = {path.stem: path for path in folder.glob("*.db")}
            tables = verify.tables(self.project, list(there))
            known = facts.read(there, tables, f"{self.name}-")
            run.judgement = checker.judge(history.read(self.folder / history.FILE), known)
            if not run.ok:
                with self._as_far_as_there_is_room(run):
                    (self.folder / "databases").mkdir(mode=0o700)
                    for path in there.values():
                        shutil.copy2(path, self.folder / "databases")

    def keep(self, run: report.Run, wanted: Wanted, summary: dict[str, object]) -> None:
        """Put what a reader needs beside the history."""
        wrong = run.judgement.wrong if run.judgement else ()
        with self._as_far_as_there_is_room(run):
            for name, value in (
                ("faults", codec.plain(list(wanted.faults))),
                ("report", summary),
                ("contradictions", codec.plain(list(wrong))),
            ):
                (self.folder / f"{name}.json").write_bytes(codec.encode(value))

    @staticmethod
    @contextlib.contextmanager
    def _as_far_as_there_is_room(run: report.Run) -> Iterator[None]:
        """A disk that takes no more evidence takes nothing from the report."""
        try:
            yield
        except OSError as error:
            run.notes.append(f"the evidence is not whole: {(error.strerror or str(error)).lower()}")

    def forget(self) -> None:
        """Nothing was wrong: leave nothing behind."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            self.folder.parent.rmdir()


def _first(error: BaseException) -> BaseException:
    """What went wrong first, out of the groups that it came through."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _route(service: str, operation: Operation) -> Route:
    access = operation.access
    return Route(
        service=service,
        name=operation.name,
        method=operation.method,
        path=operation.path,
        places={each.name: each.where for each in operation.fields},
        takes_body=operation.takes_body,
        takes_key=operation.takes_key,
        roles=None if access.anyone else access.roles,
    )
