from __future__ import annotations

import signal


def pytest_configure() -> None:
    """Go on ignoring what this run was begun to ignore (by nohup, in the background), but let nothing inherit it.

    A program that is begun to ignore a signal does so, and tests of what it does at one fail.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, lambda *_: None)
