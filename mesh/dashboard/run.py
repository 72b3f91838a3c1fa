"""The screen at work: draws when something has changed, and does what the keys ask for.

A process of its own, or none: the mesh never waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Literal

from msgspec.structs import replace

from mesh import clock
from mesh.dashboard import keys
from mesh.dashboard.feed import Feed, apart
from mesh.dashboard.terminal import Terminal
from mesh.dashboard.view import view
from mesh.errors import DeadlineExceeded, MeshError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from mesh.dashboard.frame import Frame
    from mesh.dashboard.picture import Picture
    from mesh.dashboard.source import Source
    from mesh.dashboard.ui import Ui

DRAW_S = 0.25
"""Between two pictures of what flows; a key is answered at once."""

IDLE_S = 1.0
"""Between two pictures when nothing happens: the time goes on."""

FIRST_S = 15.0
"""For the first status: a supervisor's loop is never away for longer."""

ONCE_S = 1.6
"""What a single picture waits for: rates need two readings a second apart."""

ESCAPE_S = 0.05
"""An escape that nothing follows for so long is the key of that name."""

ASKED_S = 1.0
"""Between two looks at what is open: a service's details, a trace."""

End = Literal["left", "gone", "hung up"]
"""The person left; the mesh is gone; the terminal is."""


class Screen:
    """One person at one terminal, looking at one mesh.

    Args:
        greeting: asked with each frame until it has something to say, which is then shown.
        before: called before the terminal is taken.

    Attributes:
        end: why it was left; `signal`: by which signal.
        picture: what was shown last.
    """

    def __init__(
        self,
        source: Source,
        ui: Ui,
        *,
        colours: bool,
        greeting: Callable[[Frame], str] = lambda _: "",
        before: Callable[[], None] = lambda: None,
    ) -> None:
        """Nothing is read or drawn yet."""
        self._before = before
        self._source = source
        self._ui = ui
        self._colours = colours
        self._greeting: Callable[[Frame], str] | None = greeting
        self._feed = Feed(source, self._change)
        self._wake = asyncio.Event()
        self._changed = self._keyed = self._leaving = False
        self._held: Frame | None = None
        self._typed = ""
        self._typing: asyncio.TimerHandle | None = None
        self._work: set[asyncio.Task[None]] = set()
        self._spawn: Callable[[Coroutine[None, None, None]], None]
        self.end: End = "left"
        self.signal: int | None = None
        self.picture: Picture | None = None

    async def show(self) -> None:
        """Draw until somebody leaves, or the mesh or the terminal is gone; then give it back.

        Raises: NotRunning; DeadlineExceeded when there is no first status.
        """
        self._terminal = Terminal(
            colours=self._colours, typed=self._type, hung_up=lambda: self._leave("hung up")
        )
        self._catch_signals()
        try:
            async with asyncio.TaskGroup() as group:
                self._spawn = lambda work: self._keep(group.create_task(work))
                self._spawn(self._feed.run())
                answered = await self._first()
                if answered and not self._leaving:
                    self._before()
                    self._terminal.take()
                    await self._draw_on()
                for task in self._work:
                    task.cancel()
        finally:
            self._terminal.close()
        if not answered:
            raise DeadlineExceeded(f"the mesh has not answered for {FIRST_S:g} s", hint="mesh ps")

    def _keep(self, task: asyncio.Task[None]) -> None:
        """It ends with the screen at the latest."""
        self._work.add(task)
        task.add_done_callback(self._work.discard)

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            loop.add_signal_handler(number, self._signalled, number)
        loop.add_signal_handler(signal.SIGWINCH, self._resized)
        loop.add_signal_handler(signal.SIGTSTP, self._suspended)

    def _signalled(self, number: int) -> None:
        if number == signal.SIGINT and self._ui.owner:
            return  # it went to the mesh as well, which will be gone
        self.signal = number
        self._leave("left")

    def _leave(self, end: End) -> None:
        self.end, self._leaving = end, True
        self._wake.set()

    def _resized(self) -> None:
        self._terminal.forget()
        self._keyed = True
        self._wake.set()

    def _suspended(self) -> None:
        """Ctrl-Z: the shell's screen first, and ours again when it lets us go on."""
        self._terminal.give_back()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._terminal.take()
        self._resized()

    def _change(self) -> None:
        self._changed = True
        if self._feed.ended:
            self._leave("gone")
        self._wake.set()

    async def _first(self) -> bool:
        """Wait for something to show; whether there is, or somebody left before."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                while self._feed.status is None and not self._leaving:
                    self._wake.clear()
                    await self._wake.wait()
        return self._feed.status is not None or self._leaving

    async def _draw_on(self) -> None:
        drawn_s = 0.0
        while not self._leaving:
            self._keyed = self._changed = False
            if not self._terminal.busy:
                self._draw()
                drawn_s = clock.monotonic_s()
            await self._due(drawn_s)

    async def _due(self, drawn_s: float) -> None:
        """Wait until the next picture is due."""
        while not (self._leaving or self._keyed):
            wait_s = drawn_s + (DRAW_S if self._changed else IDLE_S) - clock.monotonic_s()
            if wait_s <= 0:
                return
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._wake.wait()

    def _frame(self) -> Frame:
        """The moment that is shown: the present, or the one that is held."""
        if not self._ui.paused:
            self._held = None
            return self._feed.frame()
        if self._held is None:
            self._held = self._feed.frame()
        return self._held

    def _draw(self) -> None:
        frame = self._frame()
        if self._greeting is not None and (said := self._greeting(frame)):
            self._greeting = None
            self._ui = replace(self._ui, note=said)
        self.picture = view(frame, self._ui, *self._terminal.size)
        self._terminal.draw(self.picture)

    def _type(self, text: str) -> None:
        """What comes in two pieces is one key all the same."""
        self._typed += text
        if self._typing is not None:
            self._typing.cancel()
        if self._typed.endswith(("\x1b", "\x1b[", "\x1bO")):
            self._typing = asyncio.get_running_loop().call_later(ESCAPE_S, self._press)
        else:
            self._press()

    def _press(self) -> None:
        typed, self._typed = self._typed, ""
        for key in keys.decode(typed):
            self._ui, effect = keys.press(self._ui, key, self._frame())
            if effect is not None:
                self._have(effect)
        self._keyed = True
        self._wake.set()

    def _have(self, effect: keys.Effect) -> None:
        """See to what a key asked for, without waiting for it."""
        match effect:
            case keys.Leave(stop=False):
                self._leave("left")
            case keys.Leave():  # and is shown until it is gone
                self._spawn(self._do("stop the mesh", self._source.down))
            case keys.Explain(name):
                self._spawn(self._explain(name))
            case keys.Open(trace_id):
                self._spawn(self._open(trace_id))
            case keys.Act() as act:
                self._spawn(self._do(f"{act.what} {act.name}", lambda: self._source.act(act)))
            case keys.Break() as fault:
                what = f"{fault.kind} {fault.name}"
                self._spawn(self._do(what, lambda: self._source.inflict(fault)))

    async def _do(self, what: str, work: Callable[[], str]) -> None:
        self._note(f"{what} ...")
        try:
            self._note(await apart(work))
        except MeshError as error:
            self._note(f"{what}: {error}" + (f"   hint: {error.hint}" if error.hint else ""))
        self._feed.look()

    def _note(self, text: str) -> None:
        self._ui = replace(self._ui, note=text)
        self._keyed = True
        self._wake.set()

    async def _explain(self, name: str) -> None:
        """Keep what is told of a service fresh for as long as it is looked at."""
        while self._ui.dialog == "details":
            try:
                self._feed.details = await apart(lambda: self._source.explain(name))
            except MeshError as error:
                self._note(str(error))
                return
            self._change()
            await asyncio.sleep(ASKED_S)

    async def _open(self, trace_id: str) -> None:
        """A trace may go on while it is looked at."""
        while self._ui.opened == trace_id:
            try:
                self._feed.waterfall = await apart(lambda: self._source.trace(trace_id))
            except MeshError as error:
                self._ui = replace(self._ui, opened="")
                self._note(str(error))
                return
            self._change()
            await asyncio.sleep(ASKED_S)


def show(screen_of: Callable[[], Screen]) -> Screen:
    """Be a screen, in a process that does nothing else; the screen that was.

    Raises: what `Screen.show` raises.
    """
    logging.getLogger().addHandler(logging.NullHandler())  # or it would write across the screen

    async def work() -> Screen:
        screen = screen_of()
        await screen.show()
        return screen

    return asyncio.run(work())


async def once(source: Source) -> Frame:
    """One moment, with whatever could be learnt in ONCE_S. Raises: NotRunning, DeadlineExceeded."""
    feed = Feed(source, lambda: None)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ONCE_S):
            await feed.run()
    if feed.ended or feed.status is None:
        source.status()
        raise DeadlineExceeded("the mesh does not answer in time", hint="mesh ps")
    return feed.frame()
