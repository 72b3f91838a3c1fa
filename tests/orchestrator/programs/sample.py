"""Programs to be supervised. This folder is their working directory and on no other path."""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mesh import notify


def _on_term(handler):
    signal.signal(signal.SIGTERM, handler)


def _leave(*_):
    sys.exit(0)


def _note(**members):
    print(json.dumps(members), flush=True)


def serve():
    """Answer every connection with this pid, until SIGTERM."""
    _on_term(_leave)
    listener = socket.socket(fileno=3)
    notify.ready()
    while True:
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(4096)
            pid = str(os.getpid()).encode()
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + pid)


def report():
    """Say what this process found when it began."""
    _on_term(_leave)
    found = sorted(int(entry.name) for entry in Path("/proc/self/fd").iterdir())
    found.pop()  # the listing's own
    _note(
        environment=dict(os.environ),
        descriptors=found,
        argv=sys.argv,
        cwd=str(Path.cwd()),
        umask=os.umask(0o077),
        session=os.getsid(0) == os.getpid(),
        parent=os.getppid(),
        ignored=[n for n in (1, 2, 15) if signal.getsignal(n) is signal.SIG_IGN],
    )
    notify.ready()
    signal.pause()


def wait():
    """Be ready and do nothing."""
    _on_term(_leave)
    notify.ready()
    signal.pause()


def beat():
    """Be alive, then ready too."""
    _on_term(_leave)
    notify.beat()
    notify.ready()
    while True:
        notify.beat()
        time.sleep(notify.BEAT_S)


def mood(text):
    """Be ready, then say so."""
    _on_term(_leave)
    notify.ready()
    notify.status(text)
    signal.pause()


def slow():
    """Need a second to stop."""

    def later(*_):
        time.sleep(1.0)
        sys.exit(0)

    _on_term(later)
    notify.ready()
    signal.pause()


def stubborn():
    """Ignore SIGTERM, as does the child."""
    _on_term(signal.SIG_IGN)
    child = os.fork()
    if child:
        _note(child=child)
        notify.ready()
    while True:
        signal.pause()


def parent():
    """Have a child that knows nothing of anything."""
    child = subprocess.Popen(["/bin/sleep", "1000"])
    _note(child=child.pid)
    _on_term(_leave)
    notify.ready()
    signal.pause()


def leaves_child_behind():
    """End on SIGTERM; the child, in the same group, does not."""
    _on_term(signal.SIG_IGN)
    child = os.fork()
    if child == 0:
        while True:
            signal.pause()
    _on_term(_leave)
    _note(child=child)
    notify.ready()
    signal.pause()


def daemon():
    """Have a grandchild in a session of its own, out of reach of any group."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _note(child=os.getpid())
            while True:
                signal.pause()
        os._exit(0)
    os.wait()
    wait()


def litter(count):
    """Leave short-lived orphans behind."""
    for _ in range(int(count)):
        if os.fork() == 0:
            if os.fork() == 0:
                time.sleep(0.05)
            os._exit(0)
        os.wait()
    wait()


def crash():
    """Fail at once."""
    print("about to fail", flush=True)
    msg = "boom"
    raise RuntimeError(msg)


def leave(status):
    """Exit at once."""
    sys.exit(int(status))


def done():
    """Return at once."""


def never_ready():
    """Start for ever."""
    _on_term(_leave)
    signal.pause()


def flaky(path):
    """Fail once, then work."""
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        sys.exit(1)
    wait()


def moody(path):
    """Serve HTTP as the file says: `yes`, `no`, or `nothing` at all; stops on SIGTERM."""
    _on_term(_leave)
    listener = socket.socket(fileno=3)
    while True:
        connection, _ = listener.accept()
        with contextlib.suppress(OSError):
            connection.recv(4096)
            mood = Path(path).read_text("utf-8")
            if mood == "nothing":
                continue  # the connection is closed when the next one comes
            status = "200 OK" if mood == "yes" else "503 Not now"
            connection.sendall(f"HTTP/1.0 {status}\r\n\r\nas told".encode())
        connection.close()


def chance():
    """Draw a number, and make a name, as any program may."""
    import random

    _on_term(_leave)
    _note(number=random.random(), name=next(tempfile._get_candidate_names()))
    notify.ready()
    signal.pause()


def hoard(what):
    """Take files or memory without end, once told to by SIGHUP."""

    def take(*_):
        kept = []
        while True:
            kept.append(os.open("/dev/null", 0) if what == "files" else mmap.mmap(-1, 2**28))

    signal.signal(signal.SIGHUP, take)
    wait()
