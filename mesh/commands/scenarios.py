"""Which scenarios there are: the shop's where its services run, and those that the file names."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.commands.project import check_names
from mesh.errors import InvalidInput, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from types import ModuleType

    from mesh.commands.project import Project
    from mesh.exercise.scenario import Scenario

HINT = "exercise: {scenarios: scenarios.py}, and there: scenarios = (Scenario(…),)"


FRAMES_MAX = 3
"""Lines of a failed import that are shown: the last ones."""


def known(project: Project) -> tuple[Scenario, ...]:
    """Every scenario there is, one's own first; one of the shop's name takes its place.

    Raises: InvalidInput (the file cannot be imported, or has none).
    """
    from mesh.exercise import shop  # noqa: PLC0415  (only for those who exercise)

    own = _own(project)
    names = {each.name for each in own}
    return (*own, *(each for each in shop.scenarios if each.name not in names))


def named(found: tuple[Scenario, ...], name: str | None) -> tuple[Scenario, ...]:
    """The one of that name, else all of them. Raises: NotFound, with a suggestion."""
    if name is None:
        return found
    check_names([name], [each.name for each in found], what="scenario")
    return tuple(each for each in found if each.name == name)


def served(
    found: tuple[Scenario, ...], operations: Collection[str], services: Collection[str]
) -> tuple[Scenario, ...]:
    """Those of which every operation is served; `services` are those that the file has.

    Raises: WrongUsage (none is).
    """
    kept = tuple(each for each in found if all(need in operations for need in each.needs))
    if not kept:
        missing = [need for each in found for need in each.needs if need not in operations]
        away = dict.fromkeys(need.partition(".")[0] for need in missing)
        start = [name for name in away if name in services]
        raise WrongUsage(
            "there is no scenario for the services that run",
            evidence=(f"nobody serves {', '.join(dict.fromkeys(missing))}",) if missing else (),
            hint=f"mesh start {' '.join(start)}" if start else HINT,
        )
    return kept


def _own(project: Project) -> tuple[Scenario, ...]:
    from mesh.exercise.scenario import Scenario  # noqa: PLC0415  (likewise)

    place = project.config.exercise.scenarios
    if place is None:
        return ()
    root = Path(project.config.root).absolute()
    try:
        with _importing_from(root):
            module = _loaded(root / place) if place.endswith(".py") else _imported(place)
    except (Exception, SystemExit) as error:  # anything at all may be in a module
        raise InvalidInput(
            f"the scenarios of {place} cannot be imported: {type(error).__name__}: {error}",
            evidence=_frames(error, root),
        ) from error
    found = getattr(module, "scenarios", None)
    rows = tuple(found) if isinstance(found, list | tuple) else ()
    if not rows or not all(isinstance(row, Scenario) for row in rows):
        raise InvalidInput(
            f"{place} has no `scenarios = (Scenario(…), …)`",
            hint="from mesh.exercise import Scenario, Visit",
        )
    twice = [name for name, count in Counter(row.name for row in rows).items() if count > 1]
    if twice:
        raise InvalidInput(f"{place} has several scenarios `{twice[0]}`", hint="name each its own")
    return rows


def _frames(error: BaseException, root: Path) -> tuple[str, ...]:
    """Where in the project's own files it failed, the last of them last."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [each for each in frames if Path(each.filename).is_relative_to(root)]
    return tuple(f"{each.filename}:{each.lineno}: {each.line}" for each in ours[-FRAMES_MAX:])


def _imported(name: str) -> ModuleType:
    return importlib.import_module(name)


def _loaded(file: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{file} is no Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def _importing_from(root: Path) -> Iterator[None]:
    sys.path.insert(0, str(root))
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(str(root))
