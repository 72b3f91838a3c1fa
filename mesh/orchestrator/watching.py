"""Files watched for programs under development: who is to be restarted when they change.

Needs the extra `watch` (watchfiles, which asks the kernel and settles bursts of changes).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence

    from mesh.orchestrator.contract import Program

SETTLE_MS = 100
"""Changes this close together are one: an editor writes, renames and touches."""

STEP_MS = 25
"""Between two looks at what the kernel has told."""


def check(programs: Iterable[Program]) -> None:
    """Be sure that watching is possible. Raises: WrongUsage."""
    if importlib.util.find_spec("watchfiles") is None:
        raise WrongUsage(
            "--watch needs the package watchfiles",
            code="missing-extra",
            hint="pip install watchfiles",
        )
    if not any(program.watch for program in programs):
        raise WrongUsage(
            "there is nothing to watch: no service of this mesh has a `module` or `develop: watch`",
            hint="develop: {watch: [{path: src, action: restart}]}",
        )


def affected(
    watched: Mapping[str, Collection[Path]], changed: Iterable[Path]
) -> dict[str, list[Path]]:
    """The programs under whose paths something changed, with what did."""
    found: dict[str, list[Path]] = {}
    for path in changed:
        for name, roots in watched.items():
            if any(path.is_relative_to(root) for root in roots):
                found.setdefault(name, []).append(path)
    return found


def packages(modules: Iterable[str]) -> list[Path]:
    """The folders of the top-level packages that these modules belong to."""
    found = []
    for name in sorted({module.partition(".")[0] for module in modules}):
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.origin is not None:
            found.append(Path(spec.origin).resolve().parent)
    return found


async def changes(
    watched: Mapping[str, Sequence[Path]], outside: Path
) -> AsyncGenerator[dict[str, list[Path]], None]:
    """Whose files have changed, again and again until it is closed.

    Args:
        watched: absolute paths by program; those that do not exist are left out.
        outside: never looked at, though it may lie inside: programs write their data there.
    """
    from watchfiles import DefaultFilter, awatch  # noqa: PLC0415  (an extra)

    ignore = DefaultFilter(ignore_paths=[outside])
    roots = {path for paths in watched.values() for path in paths if path.exists()}
    async for found in awatch(
        *roots,
        watch_filter=ignore,
        debounce=SETTLE_MS,
        step=STEP_MS,
        raise_interrupt=False,
        ignore_permission_denied=True,
    ):
        if names := affected(watched, sorted(Path(path) for _, path in found)):
            yield names
