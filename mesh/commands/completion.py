"""`mesh completion`: what makes a shell complete commands, options, services and operations."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mesh.commands import output
from mesh.commands.verb import verb

VARIABLE = "_MESH_COMPLETE"
"""By which the shell asks `mesh` itself, with every press of the key."""

SHELLS = ("bash", "zsh", "fish")


@verb(
    'eval "$(mesh completion bash)"       # in ~/.bashrc',
    'eval "$(mesh completion zsh)"        # in ~/.zshrc',
    "mesh completion fish | source       # in ~/.config/fish/config.fish",
)
@click.argument("shell", type=click.Choice(SHELLS), metavar="bash|zsh|fish")
@click.pass_context
def command(ctx: click.Context, *, shell: str) -> None:
    """Print what makes a shell complete mesh's words.

    Names of services come from the configuration here, operations from what runs.
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = ctx.find_root()
    output.block(kind(root.command, {}, "mesh", VARIABLE).source())
