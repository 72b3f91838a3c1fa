"""The reconciler in a small world of its own: whatever happens, in whatever order."""

from __future__ import annotations

import signal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mesh.config import RestartPolicy
from mesh.orchestrator.contract import Program
from mesh.orchestrator.life import (
    Beat,
    Excuse,
    Exited,
    Extend,
    Gate,
    Kill,
    Life,
    Ready,
    Restart,
    Said,
    Send,
    Spawn,
    Start,
    Stop,
    Tick,
    Unstartable,
)
from mesh.orchestrator.restart import (
    ABORT_S,
    BACKOFF_MAX_S,
    EXCUSES_MAX,
    WATCHDOG_S,
    WINDOW_S,
    decide,
)

policies = st.builds(
    RestartPolicy,
    st.sampled_from(["no", "always", "on-failure", "unless-stopped"]),
    st.integers(1, 5),
)


WORDS = [
    Ready(),
    Beat(),
    Extend(5.0),
    Said(""),
    Said("fenced"),
    Excuse(wanted=True),
    Excuse(wanted=False),
]


class World(RuleBasedStateMachine):
    """One program: the process is there from Spawn to Exited, and obeys SIGKILL alone."""

    @initialize(policy=policies, grace_s=st.floats(0.0, 20.0))
    def begin(self, policy, grace_s):
        self.program = Program(name="x", entry="m:f", restart=policy, stop_grace_s=grace_s)
        self.life = Life()
        self.now_s = 0.0
        self.process = False
        self.doomed = False
        self.wanted = False
        self.signalled = False
        self.unasked_spawns: list[float] = []
        self.excused_spawns: list[float] = []

    def happens(self, event, *, asked=False, chance=0.5):
        before = self.life
        decision = decide(self.program, before, event, self.now_s, chance)
        self.life = decision.life
        for action in decision.actions:
            if isinstance(action, Spawn):
                assert not self.process, "two processes at once"
                assert self.wanted, "started unasked"
                self.process, self.doomed = True, False
                excused = asked or self.signalled or before.state == "stopping"
                if not excused and decision.life.excuses != before.excuses:
                    self.excused_spawns.append(self.now_s)
                elif not excused and before.fault is None:
                    self.unasked_spawns.append(self.now_s)
                self.signalled = False
            if isinstance(action, Send):
                assert self.process, "signalled nobody"
                self.doomed |= action.number == signal.SIGKILL

    @rule(seconds=st.floats(0.0, 30.0))
    def time_passes(self, seconds):
        """In steps no longer than to the next wanted tick, as a timer does it."""
        until_s = self.now_s + seconds
        while self.life.wake_s is not None and self.life.wake_s <= until_s:
            self.now_s = max(self.now_s, self.life.wake_s)
            self.happens(Tick())
        self.now_s = until_s

    @rule()
    def early_tick(self):
        if self.life.wake_s is None or self.life.wake_s > self.now_s:
            before = self.life
            self.happens(Tick())
            assert self.life == before

    @rule(again=st.booleans())
    def asked_to_run(self, again):
        self.wanted = True
        self.unasked_spawns.clear()
        self.excused_spawns.clear()
        self.happens(Restart() if again else Start(), asked=True)

    @rule(by_s=st.none() | st.floats(-1.0, 20.0))
    def asked_to_stop(self, by_s):
        self.wanted = False
        self.happens(Stop(None if by_s is None else self.now_s + by_s), asked=True)

    @rule(number=st.sampled_from([signal.SIGHUP, signal.SIGKILL]))
    def asked_to_signal(self, number):
        self.signalled = self.process
        self.happens(Kill(number), asked=True)
        self.unasked_spawns.clear()

    @rule(verdict=st.sampled_from(["open", "wait", "blocked"]))
    def gate_moves(self, verdict):
        self.happens(Gate(verdict, "a dependency"), asked=True)

    @precondition(lambda self: self.process)
    @rule(word=st.sampled_from(WORDS))
    def program_speaks(self, word):
        self.happens(word)

    @precondition(lambda self: self.process)
    @rule(status=st.sampled_from([0, 1, 78, -9, -11]), chance=st.floats(0.0, 1.0))
    def process_ends(self, status, chance):
        self.process = False
        self.happens(Exited(-9 if self.doomed else status), chance=chance)

    @precondition(lambda self: self.process and self.life.state in {"starting", "stopping"})
    @rule(again=st.booleans())
    def cannot_be_made(self, again):
        self.process = False
        self.happens(Unstartable("no such program", again=again))

    @invariant()
    def life_knows_its_process(self):
        assert self.life.alive == self.process
        assert self.process or self.life.state not in {"ready", "degraded", "stopping"}

    @invariant()
    def unwanted_programs_rest_or_are_being_stopped(self):
        if not self.wanted:
            assert self.life.state in {"stopped", "stopping"}

    @invariant()
    def every_wait_has_an_end(self):
        state, wake_s = self.life.state, self.life.wake_s
        waits = {
            "backoff": BACKOFF_MAX_S,
            "starting": self.program.start_timeout_s,
            "stopping": max(self.program.stop_grace_s, 20.0, ABORT_S),
            "ready": WATCHDOG_S,
            "degraded": WATCHDOG_S,
        }
        if wake_s is not None:
            assert wake_s - self.now_s <= waits[state] + 1e-9  # floats
        if state == "backoff" or (state == "starting" and self.process):
            assert wake_s is not None
        if state == "stopping":
            assert wake_s is not None or self.doomed
        if state in {"stopped", "failed"}:
            assert wake_s is None

    @invariant()
    def starts_by_itself_are_bounded(self):
        if self.program.restart.when == "on-failure":
            recent = [at_s for at_s in self.unasked_spawns if self.now_s - at_s < WINDOW_S]
            assert len(recent) < self.program.restart.limit
        excused = [at_s for at_s in self.excused_spawns if self.now_s - at_s < WINDOW_S]
        assert len(excused) <= EXCUSES_MAX
        if self.program.restart.when == "no":
            assert not self.unasked_spawns

    @invariant()
    def always_is_never_given_up(self):
        if self.program.restart.when == "always" and self.wanted and self.life.exit == 1:
            assert self.life.state != "stopped"


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
