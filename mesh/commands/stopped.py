"""How programs ended when they were asked to, for a person."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.commands import output

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


def report(ended: Iterable[Mapping[str, object]]) -> None:
    """One line a program: `order  graceful 0.3 s`, `order  killed after 10.0 s`."""
    rows = list(ended)
    width = max((len(str(row["name"])) for row in rows), default=0)
    for row in rows:
        how, after_s = row["how"], row["after_s"]
        name = f"{row['name']!s:<{width}}  "
        if how == "killed":
            output.out(name, (f"killed after {after_s:.1f} s", "warn"))
        elif how == "graceful":
            output.out(name, f"graceful {after_s:.1f} s")
        else:
            output.out(name, (str(how), "faint"))
