"""Files watched for programs under development: who is to be restarted when they change.

Needs the extra `watch` (watchfiles, which asks the kernel and settles bursts of changes).
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import WrongUsage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence

    from mesh.orchestrator.contract import Program

SETTLE_MS = 100
"""Changes this close together are one: an editor writes, renames and touches."""

STEP_MS = 25
"""Between two looks at what the kernel has told."""


class Watcher:
    """Knows which files are whose.

    Args:
        programs: with the absolute paths in their `watch`.
        outside: never looked at, though it may lie inside: programs write their data there.
        preload: the modules that the starter imports for all of them.

    Raises: WrongUsage when there is nothing to watch, or nothing to watch with.
    """

    def __init__(self, programs: Iterable[Program], outside: Path, preload: Iterable[str]) -> None:
        """Nothing is watched yet."""
        if importlib.util.find_spec("watchfiles") is None:
            raise WrongUsage(
                "--watch needs the package watchfiles",
                code="missing-extra",
                hint="pip install watchfiles",
            )
        self._outside = outside
        self._packages = packages(preload)
        self._watched = {
            program.name: [Path(path) for path in program.watch if Path(path).exists()]
            for program in programs
        }
        if not any(self._watched.values()):
            raise WrongUsage(
                "there is nothing to watch: no service here has a `module` or `develop: watch`",
                hint="develop: {watch: [{path: src, action: restart}]}",
            )

    def preloaded(self, changed: Mapping[str, Sequence[Path]]) -> bool:
        """Whether the starter may have imported one of these files."""
        return any(
            path.is_relative_to(package)
            for paths in changed.values()
            for path in paths
            for package in self._packages
        )

    async def changes(self) -> AsyncGenerator[dict[str, list[Path]], None]:
        """Whose files have changed, again and again until it is closed."""
        from watchfiles import DefaultFilter, awatch  # noqa: PLC0415  (an extra)

        roots = {path for paths in self._watched.values() for path in paths}
        async for found in awatch(
            *roots,
            watch_filter=DefaultFilter(ignore_paths=[self._outside]),
            debounce=SETTLE_MS,
            step=STEP_MS,
            raise_interrupt=False,
            ignore_permission_denied=True,
        ):
            paths = sorted(Path(path) for _, path in found)
            if names := affected(self._watched, paths):
                yield names


def affected(
    watched: Mapping[str, Iterable[Path]], changed: Iterable[Path]
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
