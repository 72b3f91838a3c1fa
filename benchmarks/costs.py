"""What single things cost beside the least that does the same, in turns.

    python benchmarks/costs.py [--rounds 5]

One endpoint without a database (64 clients) beside aiohttp by hand and FastAPI and Starlette under
uvicorn, which are installed into the user's cache; the start of the command line beside an import
of click; logins beside two threads of argon2id; memory of the shop beside four services by
hand; the idle CPU of a service, without a dashboard and with one.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import pty
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "benchmarks"))

import figures  # noqa: E402  after the path
import psutil  # noqa: E402  likewise
from orders import (  # noqa: E402  likewise
    Contender,
    free_ports,
    http,
    installed,
    processes,
    trial,
    until_listening,
)

from mesh.services.auth import model  # noqa: E402  likewise
from tests.support.running import PASSWORD, RunningMesh, tough_shop  # noqa: E402  likewise

CLIENTS = 64
SECONDS = 2.0
IDLE_S = 15.0
LOGINS_S = 3.0
LOGIN_CLIENTS = 4
PLAIN = """
from msgspec import Struct
from mesh.framework import ANYONE, Context, Operation, Service


class Greet(Struct, frozen=True):
    name: str


class Greeting(Struct, frozen=True):
    text: str


async def greet(ctx: Context, request: Greet) -> Greeting:
    return Greeting(f"Hello {request.name}")


service = Service(
    name="greeter",
    summary="Greets.",
    operations=(
        Operation(
            "greet", "POST /greetings", greet, Greet, Greeting, allow=ANYONE, example=Greet("Ada"),
            status=201,
        ),
    ),
)
"""
"""As the README has it, without a database, a caller or an event."""

WEB = {"fastapi": ["fastapi", "uvicorn[standard]"], "starlette": ["starlette", "uvicorn[standard]"]}


def show(what: str, name: str, values: list[float], unit: str) -> None:
    """Print one figure, and keep it."""
    figures.note(name, values)
    print(
        f"{what:52}{statistics.median(values):10,.2f} {unit}"
        f"   (min {min(values):,.2f}, max {max(values):,.2f}, n {len(values)})",
        flush=True,
    )


def plain_mesh(directory: Path) -> RunningMesh:
    """One service that greets, not started yet."""
    (directory / "plain.py").write_text(PLAIN)
    (directory / "mesh.yaml").write_text(
        "name: plain\nbus: zmq://\nservices:\n  greeter: {module: plain}\n"
    )
    return RunningMesh(directory)


def endpoint(rounds: int) -> None:
    """Greetings a second."""
    found: dict[str, list[float]] = {}
    with contextlib.ExitStack() as running:
        mesh = plain_mesh(Path(running.enter_context(tempfile.TemporaryDirectory()))).up()
        running.callback(mesh.down)
        ports = {"ours": int(mesh.url("greeter").rpartition(":")[2])}
        for name in ("aiohttp", *WEB):
            try:
                python = installed(name, WEB[name]) if name in WEB else sys.executable
            except RuntimeError as error:
                print(f"{name} is left out: {error}")
                continue
            (ports[name],) = free_ports(1)
            command = [python, str(ROOT / "benchmarks" / "endpoint.py"), name, str(ports[name])]
            running.enter_context(processes(command))
            until_listening(ports[name])
        driver = [sys.executable, str(ROOT / "benchmarks" / "driver.py")]
        contenders = [
            Contender(name, [*driver, str(port)], http("/greetings", port, {}, {"name": "Ada"}))
            for name, port in ports.items()
        ]
        for number in range(rounds + 1):
            for each in contenders:
                rate = trial(each, CLIENTS, SECONDS if number else 0.5)["rate"]
                if number:
                    found.setdefault(each.name, []).append(rate)
    for name, rates in found.items():
        show(f"one endpoint, {CLIENTS} clients: {name}", f"endpoint {name}", rates, "/s")


def start_ms(*command: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return (time.perf_counter() - begun) * 1e3


def command_line(rounds: int) -> None:
    pairs = [
        (start_ms("-m", "mesh", "--version"), start_ms("-c", "import click"))
        for _ in range(3 * rounds)
    ]
    ours, least = map(list, zip(*pairs, strict=True))
    show("mesh --version, whole process", "version ours", ours, "ms")
    show("python -c 'import click', whole process", "version least", least, "ms")


def hashes(seconds: float) -> float:
    """Passwords verified a second by two threads, as auth hashes them."""
    hasher = model.HASHER
    stored = hasher.hash(PASSWORD)
    end = time.monotonic() + seconds

    def verify() -> int:
        done = 0
        while time.monotonic() < end:
            hasher.verify(stored, PASSWORD)
            done += 1
        return done

    begun = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(verify) for _ in range(2)]
        return sum(each.result() for each in both) / (time.monotonic() - begun)


def pss_mib(pids: list[int]) -> float:
    return sum(psutil.Process(pid).memory_full_info().pss for pid in pids) / 2**20


def cpu_percent(mesh: RunningMesh) -> list[float]:
    """Of one core, each service of the shop by itself, while nobody asks anything."""
    pids = [int(row["pid"]) for row in mesh.services().values()]

    def spent() -> list[float]:
        return [sum(psutil.Process(pid).cpu_times()[:2]) for pid in pids]

    before = spent()
    time.sleep(IDLE_S)
    return [100 * (a - b) / IDLE_S for a, b in zip(spent(), before, strict=True)]


@contextlib.contextmanager
def dashboard(mesh: RunningMesh):
    """`mesh dash` on a terminal that somebody reads."""
    ours, theirs = pty.openpty()
    subprocess.run(["stty", "rows", "36", "cols", "120"], stdin=theirs, check=True)
    command = [sys.executable, "-m", "mesh", "dash"]
    opened = subprocess.Popen(
        command, cwd=mesh.directory, stdin=theirs, stdout=theirs, stderr=theirs, close_fds=True
    )
    os.close(theirs)

    def read() -> None:
        with contextlib.suppress(OSError):
            while os.read(ours, 65536):
                pass

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        time.sleep(3)
        yield
    finally:
        opened.terminate()
        opened.wait()
        reader.join(5)
        os.close(ours)


def logins(mesh: RunningMesh, rounds: int) -> None:
    port = int(mesh.url("user").rpartition(":")[2])
    body = {"email": "alice@shop.example", "password": PASSWORD}
    driver = [sys.executable, str(ROOT / "benchmarks" / "driver.py"), str(port)]
    login = Contender("logins", driver, http("/sessions", port, {}, body))
    trial(login, LOGIN_CLIENTS, 1.0)
    pairs = [
        (trial(login, LOGIN_CLIENTS, LOGINS_S)["rate"], hashes(LOGINS_S)) for _ in range(rounds)
    ]
    ours, least = map(list, zip(*pairs, strict=True))
    show(f"logins, {LOGIN_CLIENTS} clients", "logins ours", ours, "/s")
    show("two threads of argon2id", "logins least", least, "/s")


def shop(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        mesh = tough_shop(Path(folder)).up()
        try:
            time.sleep(2)
            supervisor = psutil.Process(mesh.supervisor())
            pids = [supervisor.pid, *(each.pid for each in supervisor.children(recursive=True))]
            show("memory of the shop, seven processes (PSS)", "memory ours", [pss_mib(pids)], "MiB")
            closed = cpu_percent(mesh)
            show("idle CPU of a service, no dashboard", "idle closed", closed, "%")
            with dashboard(mesh):
                show("idle CPU of a service, a dashboard open", "idle open", cpu_percent(mesh), "%")
            logins(mesh, rounds)
        finally:
            mesh.down()


def by_hand_memory() -> None:
    script = [sys.executable, str(ROOT / "benchmarks" / "byhand.py"), "product"]
    ports = free_ports(4)
    with contextlib.ExitStack() as stack:
        folders = [stack.enter_context(tempfile.TemporaryDirectory()) for _ in ports]
        commands = [
            [*script, str(port), "0", folder] for port, folder in zip(ports, folders, strict=True)
        ]
        running = stack.enter_context(processes(*commands))
        for port in ports:
            until_listening(port)
        found = [pss_mib([each.pid for each in running])]
    show("memory of four services by hand (PSS)", "memory least", found, "MiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    print(f"{platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    command_line(chosen.rounds)
    endpoint(chosen.rounds)
    by_hand_memory()
    shop(chosen.rounds)


if __name__ == "__main__":
    main()
