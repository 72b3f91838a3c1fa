"""Makes docs/pictures/dashboard.svg: the dashboard while the shop is under load and harmed.

    python docs/pictures/dashboard.py [SECONDS]

The real shop on free ports in a directory of its own, orders by several people, then late answers
of product and a killed user; what `mesh dash` would show at the end is drawn as SVG.
"""

import asyncio
import contextlib
import io
import itertools
import re
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from mesh.commands.dash import source  # noqa: E402  after the path
from mesh.commands.options import Options  # noqa: E402  after the path
from mesh.commands.project import Project  # noqa: E402  after the path
from mesh.dashboard import listing, run  # noqa: E402  after the path
from mesh.dashboard.frame import Frame  # noqa: E402  after the path
from mesh.dashboard.ui import TRACES, Ui  # noqa: E402  after the path
from mesh.dashboard.view import view  # noqa: E402  after the path
from tests.support.running import LAMP, RunningMesh  # noqa: E402  after the path

COLUMNS, ROWS = 124, 42
PEOPLE = 3
PAUSE_S = 0.06
SECONDS = 45.0
HARMED_S = 6.0
"""Before the picture is taken."""

THEME = TerminalTheme(
    (24, 26, 31),
    (208, 212, 220),
    [
        *((40, 44, 52), (224, 108, 117), (138, 190, 110), (229, 192, 123)),
        *((97, 160, 230), (198, 120, 221), (86, 182, 194), (200, 204, 212)),
    ],
)


def order(mesh: RunningMesh, ended: threading.Event, user: str, number: int) -> None:
    """Place orders until it is over; what fails is what the picture is about."""
    for count in itertools.count():
        if ended.wait(PAUSE_S):
            return
        with contextlib.suppress(OSError):
            mesh.order([(LAMP, 1)], key=f"{user}-{number}-{count}", user=user)


def harmed(mesh: RunningMesh) -> None:
    """Late answers and refusals of product, and a killed user."""
    mesh.run("chaos", "latency", "product", "--ms", "180", "--rate", "0.4", "--for", "60")
    mesh.run("chaos", "error", "product", "--rate", "0.05", "--for", "60")
    mesh.run("chaos", "kill", "user")


def seen(mesh: RunningMesh) -> tuple[Frame, Ui]:
    """What there is to see now: the whole, and the slowest story that failed."""
    project = Project(Options(file=None, name=None, data=str(mesh.directory / "data"), debug=False))
    given = source(project)
    frame = asyncio.run(run.once(given))
    worst = listing.traces(frame, Ui(order="errors"))
    worst.sort(key=lambda each: (not each.error, not each.retries, -each.duration_us))
    chosen = worst[0].trace_id
    ui = Ui(pane=TRACES, opened=chosen)
    return type(frame)(**{**fields(frame), "waterfall": given.trace(chosen)}), ui


def fields(frame: Frame) -> dict[str, object]:
    """Its members by name."""
    return {name: getattr(frame, name) for name in frame.__struct_fields__}


def svg(frame: Frame, ui: Ui) -> str:
    """The picture, with the reader's own monospaced font: nothing is fetched."""
    console = Console(
        width=COLUMNS, record=True, file=io.StringIO(), force_terminal=True, legacy_windows=False
    )
    console.print(view(frame, ui, COLUMNS, ROWS), end="")
    drawn = console.export_svg(title="mesh dash", theme=THEME)
    drawn = re.sub(r"@font-face \{.*?\}", "", drawn, flags=re.DOTALL)
    return drawn.replace("Fira Code,", "").replace('font-family: "Fira Code"', "")


def main() -> None:
    """Run the shop, harm it, draw it."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    with tempfile.TemporaryDirectory() as directory:
        mesh = RunningMesh(Path(directory)).up()
        try:
            ended = threading.Event()
            users = ["alice", "bob", "alice"][:PEOPLE]
            people = [
                threading.Thread(target=order, args=(mesh, ended, user, number), daemon=True)
                for number, user in enumerate(users)
            ]
            for person in people:
                person.start()
            time.sleep(seconds)
            harmed(mesh)
            time.sleep(HARMED_S)
            drawn = svg(*seen(mesh))
            ended.set()
            for person in people:
                person.join()
        finally:
            mesh.down()
    file = Path(__file__).with_suffix(".svg")
    file.write_text(drawn, "utf-8")
    print(f"{file.relative_to(ROOT)}: {len(drawn)} bytes")


if __name__ == "__main__":
    main()
