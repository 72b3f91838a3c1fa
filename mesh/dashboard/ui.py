"""What the person at the screen has chosen: a value, changed by keys alone."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

SERVICES, TOPOLOGY, EVENTS, TRACES, LOGS = PANES = (1, 2, 3, 4, 5)

Dialog = Literal["", "help", "details", "event", "line"]
"""What covers the panes below the services."""

Prompt = Literal["", "filter", "restart", "stop", "chaos", "quit"]
"""What the last row asks."""

SORTS = ("trouble", "name", "cpu", "memory", "req/s", "p99", "err%", "restarts", "lag")
ORDERS = ("latest", "slowest", "errors")
"""Of traces."""

FAULT_S = (10.0, 30.0, 60.0, 300.0)
"""How long what is broken on purpose may last."""


class Ui(Struct, frozen=True):
    """Which pane, what is selected in it, how it is filtered and sorted, what is being asked.

    Attributes:
        below: the pane that a small screen shows under the services.
        selected, filters: of each pane; a selection is a key of its list, "" its natural end.
        logs_of: whose logs are shown, "" for all; `traces_of` likewise.
        trace_of: log lines of this trace only.
        opened: the trace that is drawn as a waterfall.
        target: the service that the last row asks about, wherever it has moved to meanwhile.
        owner: whoever leaves this screen is asked whether the mesh shall stop.
        note: the answer to what was done last.
    """

    pane: int = SERVICES
    below: int = EVENTS
    selected: tuple[str, ...] = ("",) * len(PANES)
    filters: tuple[str, ...] = ("",) * len(PANES)
    sort: str = SORTS[0]
    reverse: bool = False
    order: str = ORDERS[0]
    logs_of: str = ""
    traces_of: str = ""
    trace_of: str = ""
    opened: str = ""
    errors_only: bool = False
    wrap: bool = False
    paused: bool = False
    dialog: Dialog = ""
    prompt: Prompt = ""
    target: str = ""
    fault_for: int = 1
    scroll: int = 0
    read_only: bool = False
    owner: bool = False
    ascii: bool = False
    note: str = ""

    @property
    def filter(self) -> str:
        """Of the pane that has the keys."""
        return self.filters[self.pane - 1]


def put(values: tuple[str, ...], pane: int, value: str) -> tuple[str, ...]:
    """The same with one pane's value changed."""
    return (*values[: pane - 1], value, *values[pane:])
