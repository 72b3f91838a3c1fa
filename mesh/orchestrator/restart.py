"""What to do about one program: a pure function of its life so far and of what just happened.

    stopped → starting → ready ⇄ degraded → stopping → stopped
    starting | ready | degraded → backoff → starting
    starting | ready | degraded → failed

What is desired is kept apart from the state observed. Nothing here starts, signals or waits:
`decide` answers with the new life and with actions for somebody else to carry out, so whole
lives of processes are replayed in tests without starting one.
"""

from __future__ import annotations

import signal
from typing import assert_never

from msgspec import Struct

from mesh import codec
from mesh.notify import BEAT_S
from mesh.orchestrator.contract import EX_CONFIG, UP, Program, State
from mesh.orchestrator.life import (
    Action,
    Asked,
    Beat,
    Decision,
    Event,
    Excuse,
    Exited,
    Extend,
    Gate,
    Kill,
    Life,
    Probed,
    Ready,
    Restart,
    Said,
    Seen,
    Send,
    Spawn,
    Start,
    Stop,
    Tick,
    Told,
    Unstartable,
    describe,
    signal_number,
)

STEADY_S = 10.0
"""Ready for this long, and the next restart is immediate: it is not a crash loop (as s6 does)."""

BACKOFF_FIRST_S = 0.2
BACKOFF_MAX_S = 10.0
"""Full jitter: a wait between 0 and min(BACKOFF_MAX_S, BACKOFF_FIRST_S · 2^n), n failures in a row.

https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
"""

_DOUBLINGS_MAX = 16
"""Doublings beyond this change nothing and would only make large integers."""

WINDOW_S = 60.0
"""The policy's limit counts the failures of this long; reaching it means `failed`."""

WATCHDOG_S = 4.5 * BEAT_S
"""Four beats missed, and half a beat of grace for a busy machine."""

AWAY_S = 0.25
"""A tick this late says that we were away ourselves, stopped or swapped out: silence proves nothing."""

FORGIVEN_S = 10.0
"""An exit this soon after a signal that was asked for is its effect: as long as a stop may take."""

EXCUSES_MAX = 10
"""Exits in WINDOW_S that a program may excuse: five tries at each of two pieces of work. More are
failures like any other, so that nothing starts again and again without an end."""

ABORT_S = 1.0
"""From SIGABRT, which lets a frozen program dump its stacks, to SIGKILL; and to it from the stop
signal for a program that answers no health question any more."""


def decide(program: Program, life: Life, event: Event, now_s: float, chance: float) -> Decision:
    """The reconciler.

    Args:
        now_s: monotonic seconds, never less than in earlier calls.
        chance: a random number from 0 to 1, for the jitter.
    """
    case = _Case(program, life, now_s, chance)
    if isinstance(event, Start | Stop | Restart | Kill):
        return _asked(case, event)
    if isinstance(event, Said | Beat | Extend | Excuse):
        return _told(case, event)
    return _seen(case, event)


def _asked(case: _Case, event: Asked) -> Decision:
    match event:
        case Start():
            return case.start()
        case Stop(by_s, why):
            return case.stop(by_s, why)
        case Restart(why):
            return case.restart(why)
        case Kill(number):
            return case.kill(number)


def _told(case: _Case, event: Told) -> Decision:
    match event:
        case Said(text):
            return case.said(text)
        case Beat():
            return case.beat()
        case Extend(by_s):
            return case.extended(by_s)
        case Excuse(wanted):
            return case.same(excused=wanted)


def _seen(case: _Case, event: Seen) -> Decision:
    match event:
        case Gate():
            decision = case.gate(event)
        case Unstartable(cause, again):
            decision = case.unstartable(cause, again=again)
        case Ready():
            decision = case.ready()
        case Probed():
            decision = case.probed(event)
        case Exited(status):
            decision = case.exited(status)
        case Tick():
            decision = case.tick()
        case _:
            assert_never(event)
    return decision


class _Case(Struct, frozen=True):
    """One decision to take: the rules, a method an event."""

    program: Program
    life: Life
    now_s: float
    chance: float

    def same(self, *actions: Action, **changes: object) -> Decision:
        return Decision(codec.replace(self.life, **changes), actions)

    def moved(self, state: State, cause: str, *actions: Action, **changes: object) -> Decision:
        since_s = self.life.since_s if state == self.life.state else self.now_s
        return self.same(*actions, **changes, state=state, cause=cause, since_s=since_s)

    def spawned(self, cause: str, **changes: object) -> Decision:
        return self.moved(
            "starting",
            cause,
            Spawn(),
            **changes,
            alive=True,
            waiting=False,
            fault=None,
            beats=False,
            complaint="",
            doubt="",
            misses=0,
            killed=False,
            excused=False,
            ready_s=None,
            forgiven_until_s=0.0,
            wake_s=self.now_s + self.program.start_timeout_s,
        )

    def ending(self, cause: str, by_s: float, **changes: object) -> Decision:
        """Stop a live process: politely, or at once when `by_s` has passed.

        SIGCONT lets a suspended program see the signal before it.
        """
        if by_s <= self.now_s:
            kill = Send(signal.SIGKILL)
            return self.moved("stopping", cause, kill, **changes, killed=True, wake_s=None)
        ask = Send(signal_number(self.program.stop_signal))
        return self.moved("stopping", cause, ask, Send(signal.SIGCONT), **changes, wake_s=by_s)

    # asked

    def start(self) -> Decision:
        fresh: dict[str, object] = {"desired": "up", "attempts": 0, "failures": ()}
        if not self.life.alive:
            fresh |= {"died": "", "excuses": ()}
        if self.life.alive:
            return self.same(**fresh)
        if self.life.state == "backoff":
            return self.spawned("asked", **fresh)
        return self.moved("starting", "asked", **fresh, waiting=True, wake_s=None)

    def stop(self, by_s: float | None, why: str) -> Decision:
        life = self.life
        down: dict[str, object] = {"desired": "down", "fault": None, "waiting": False}
        if not life.alive:
            cause = life.cause if life.state == "stopped" else why
            return self.moved("stopped", cause, **down, wake_s=None)
        by_s = self.now_s + self.program.stop_grace_s if by_s is None else by_s
        if life.state != "stopping" or by_s <= self.now_s:
            return self.ending(why, by_s, **down)
        wake_s = None if life.wake_s is None else min(life.wake_s, by_s)
        return self.same(**down, cause=why, wake_s=wake_s)

    def restart(self, why: str) -> Decision:
        if not self.life.alive or self.life.state == "stopping":
            return self.start()
        by_s = self.now_s + self.program.stop_grace_s
        return self.ending(why, by_s, desired="up", attempts=0, failures=())

    def kill(self, number: int) -> Decision:
        if not self.life.alive:
            return self.same()
        return self.same(Send(number), forgiven_until_s=self.now_s + FORGIVEN_S)

    # seen

    def gate(self, gate: Gate) -> Decision:
        if not self.life.waiting:
            return self.same()
        if gate.verdict == "open":
            return self.spawned(self.life.cause)
        return self.moved("starting" if gate.verdict == "wait" else "failed", gate.cause)

    def unstartable(self, cause: str, *, again: bool) -> Decision:
        gone: dict[str, object] = {"alive": False, "fault": None, "wake_s": None}
        if self.life.desired == "down":
            return self.moved("stopped", "asked", **gone)
        if again and self.program.restart.when != "no":
            return self.failed_once(cause, None)
        return self.moved("failed", cause, **gone)

    def ready(self) -> Decision:
        if self.life.state != "starting" or not self.life.alive:
            return self.same()
        wake_s = self.now_s + WATCHDOG_S if self.life.beats else None
        return self.moved("ready", "ready", ready_s=self.now_s, wake_s=wake_s)

    def extended(self, by_s: float) -> Decision:
        life = self.life
        if life.state != "starting" or not life.alive or life.wake_s is None:
            return self.same()
        return self.same(wake_s=max(life.wake_s, self.now_s + by_s))

    def said(self, text: str) -> Decision:
        if self.life.state in UP:
            return self.judged(complaint=text)
        if self.life.state == "starting" and self.life.alive and text:
            return self.same(cause=text)
        return self.same()

    def judged(self, **changes: object) -> Decision:
        """Of a program that runs: degraded by what it says itself, else by what it was asked."""
        after = codec.replace(self.life, **changes)
        if text := after.complaint or after.doubt:
            return self.moved("degraded", text, **changes)
        if self.life.state == "degraded":
            return self.moved("ready", "ready", **changes)
        return self.same(**changes)

    def probed(self, answer: Probed) -> Decision:
        """A *no*, often enough, degrades; silence, often enough, is the end of this process."""
        life = self.life
        if life.state == "starting" and life.alive:
            return self.ready() if answer.ok else self.same(cause=answer.text)
        if life.state not in UP:
            return self.same()
        if answer.ok:
            return self.judged(doubt="", misses=0)
        misses = life.misses + 1
        if misses < (self.program.health.retries if self.program.health else 1):
            return self.same(misses=misses)
        if not answer.silent:
            return self.judged(doubt=answer.text, misses=misses)
        fault = f"health: {answer.text}"
        by_s = self.now_s + min(self.program.stop_grace_s, ABORT_S)
        return self.ending(fault, by_s, fault=fault, misses=misses)

    def beat(self) -> Decision:
        """Arm the watchdog, once ready: a program that never beats is never judged by its beats."""
        if self.life.state in UP:
            return self.same(beats=True, wake_s=self.now_s + WATCHDOG_S)
        return self.same(beats=True)

    def tick(self) -> Decision:
        life = self.life
        if life.wake_s is None or self.now_s < life.wake_s:
            return self.same()
        if life.state == "backoff":
            return self.spawned(life.cause, restarts=life.restarts + 1)
        kill = Send(signal.SIGKILL)
        if life.state == "stopping":
            return self.same(kill, killed=True, wake_s=None)
        if self.now_s - life.wake_s > AWAY_S:
            return self.same(wake_s=self.now_s + BEAT_S)
        if life.state == "starting":
            fault = "start timeout"
            return self.moved("stopping", fault, kill, fault=fault, wake_s=None)
        abort = Send(signal.SIGABRT)
        fault = "watchdog"
        return self.moved("stopping", fault, abort, fault=fault, wake_s=self.now_s + ABORT_S)

    def exited(self, status: int) -> Decision:
        """The process is gone: was that wished for, excused, or a failure?"""
        life = self.life
        wished = life.desired == "down" or life.state == "stopping" or life.fault is not None
        forgiven = self.now_s < life.forgiven_until_s
        died = "" if wished or forgiven else describe(status)
        life = codec.replace(life, died=died)
        return codec.replace(self, life=life).ended(status)

    def ended(self, status: int) -> Decision:
        life, when = self.life, self.program.restart.when
        gone: dict[str, object] = {"alive": False, "wake_s": None, "exit": status}
        if life.desired == "down":
            return self.moved("stopped", life.cause, **gone, fault=None)
        if life.state == "stopping" and life.fault is None:
            return self.spawned(life.cause, exit=status)
        cause = life.fault or describe(status)
        forgiven = life.fault is None and self.now_s < life.forgiven_until_s
        if forgiven:
            cause += ", asked"
        done = status == 0 and life.fault is None
        if (done and when in {"no", "on-failure"}) or (forgiven and when == "no"):
            return self.moved("stopped", cause, **gone, desired="down")
        if forgiven:
            return self.spawned(cause, exit=status)
        if status == EX_CONFIG or when == "no":
            return self.moved("failed", cause, **gone, fault=None)
        return self.failed_once(cause, status)

    def failed_once(self, cause: str, status: int | None) -> Decision:
        """Start again: at once after a steady life, else after a wait; or give up."""
        life, policy = self.life, self.program.restart
        excuses = tuple(at_s for at_s in life.excuses if self.now_s - at_s < WINDOW_S)
        if life.excused and life.died and len(excuses) < EXCUSES_MAX:
            excuses = (*excuses, self.now_s)
            restarts = life.restarts + 1
            return self.spawned(cause, exit=status, restarts=restarts, excuses=excuses)
        recent = tuple(at_s for at_s in life.failures if self.now_s - at_s < WINDOW_S)
        failures = (*recent, self.now_s)[-policy.limit :]
        gone: dict[str, object] = {"exit": status, "failures": failures}
        if policy.when == "on-failure" and len(failures) == policy.limit:
            count = f"{policy.limit} failures" if policy.limit > 1 else "1 failure"
            cause = f"{cause}; {count} in {WINDOW_S:.0f} s"
            return self.moved("failed", cause, **gone, alive=False, fault=None, wake_s=None)
        if life.ready_s is not None and self.now_s - life.ready_s >= STEADY_S:
            return self.spawned(cause, **gone, restarts=life.restarts + 1, attempts=0)
        ceiling_s = BACKOFF_FIRST_S * 2 ** min(life.attempts, _DOUBLINGS_MAX)
        gone |= {"alive": False, "fault": None, "attempts": life.attempts + 1}
        wake_s = self.now_s + self.chance * min(BACKOFF_MAX_S, ceiling_s)
        return self.moved("backoff", cause, **gone, wake_s=wake_s)
