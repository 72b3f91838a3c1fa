"""Words for a shell to complete: names of services, operations and their fields.

Asked with every press of a key: whatever cannot be found out is left out, and nothing is told.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import click

    from mesh.commands.project import Project

ASK_S = 0.5
"""A service that takes longer to tell its operations is not waited for."""


def services(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """The names that the configuration knows."""
    try:
        return _beginning(_project(ctx).programs, incomplete)
    except (MeshError, OSError):
        return []


def call(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """A service, then one of its operations, then fields of that."""
    try:
        return _beginning(_next(_project(ctx), ctx.params.get("words") or ()), incomplete)
    except (MeshError, OSError):
        return []


def _next(project: Project, words: Sequence[str]) -> Iterable[str]:
    from mesh.commands.peers import Peers  # noqa: PLC0415  (only `mesh call` needs it)

    if not words:
        return project.programs
    document = Peers(project, ASK_S).document(words[0])
    if len(words) == 1:
        return document.operations
    operation = document.operations.get(words[1])
    if operation is None:
        return ()
    given = {word.partition("=")[0].rstrip(":") for word in words[2:]}
    return [f"{field.name}=" for field in operation.fields if field.name not in given]


def _project(ctx: click.Context) -> Project:
    """Of the globals already typed; no verb has run that would have kept them."""
    from mesh.commands.options import Options  # noqa: PLC0415  (`mesh --help` needs none of this)
    from mesh.commands.project import Project  # noqa: PLC0415  (likewise)

    given = ctx.find_root().params
    return Project(Options(given.get("file"), given.get("project_name"), given.get("data_dir")))


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
