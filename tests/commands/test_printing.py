"""No verb escapes: each is in the table by which stored payloads are sent through every command."""

from __future__ import annotations

import click

from mesh.cli import cli
from tests.support.printing import PRINTING


def verbs(command: click.Command, *words: str) -> list[str]:
    """Every command line of the tree that does something, a group's own name left out."""
    if not isinstance(command, click.Group):
        return [" ".join(words)]
    with click.Context(command) as ctx:
        names = command.list_commands(ctx)
        found = {name: command.get_command(ctx, name) for name in names}
    return [each for name, inner in found.items() if inner for each in verbs(inner, *words, name)]


def test_every_verb_says_how_it_prints_what_is_stored():
    known = {*verbs(cli)}
    assert known - {*PRINTING} == set(), "say in tests/support/printing.py how these print"
    assert {*PRINTING} - known == set(), "no longer there"
    assert all(PRINTING.values())
