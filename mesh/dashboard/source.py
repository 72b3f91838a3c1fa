"""What the dashboard is given to look at and to act on: a value of plain functions.

Where they come from, and that a mesh is behind them, is the business of whoever makes it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mesh.bus import Bus
    from mesh.dashboard.frame import Details, LogLine
    from mesh.dashboard.keys import Act, Break
    from mesh.orchestrator.reader import Line
    from mesh.tracing.stories import Summary
    from mesh.tracing.waterfall import Waterfall


@dataclass(frozen=True, slots=True)
class Source:
    """Each is called in a thread of its own and may take its time, `bus` and `log_line` excepted.

    Attributes:
        status: `mesh ps --json`. Raises: NotRunning.
        changes: says something whenever a state has changed, and ends with the mesh.
        logs: the file of each program.
        log_line: number and text as a line to be shown.
        bus: a connection to read the events by, not started. Raises: MeshError.
        parked: (consumer, stream, sequence) of every parked event.
        explain, traces, trace: what a person may ask to see. Raise: MeshError.
        act, inflict, down: what a person may have done; the sentence that says what came of it.
            Raise: MeshError.
    """

    status: Callable[[], Mapping[str, object]]
    changes: Callable[[], Iterator[object]]
    logs: Mapping[str, Path]
    log_line: Callable[[int, Line], LogLine]
    bus: Callable[[], Bus]
    parked: Callable[[], frozenset[tuple[str, str, int]]]
    explain: Callable[[str], Details]
    traces: Callable[[], Sequence[Summary]]
    trace: Callable[[str], Waterfall]
    act: Callable[[Act], str]
    inflict: Callable[[Break], str]
    down: Callable[[], str]
