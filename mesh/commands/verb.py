"""The form of a verb: a click command whose help leads with examples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import click

from mesh.commands import completing
from mesh.configs import durations
from mesh.configs.complaints import suggestion

if TYPE_CHECKING:
    from collections.abc import Callable

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
services_argument = click.argument(
    "services", nargs=-1, metavar="[SVC]...", shell_complete=completing.services
)
named_services_argument = click.argument(
    "services", nargs=-1, required=True, metavar="SVC...", shell_complete=completing.services
)
service_argument = click.argument("service", metavar="SVC", shell_complete=completing.services)


def _range(least: float | None, most: float | None) -> str:
    return f"{least or 0:g} and up" if most is None else f"{least or 0:g} to {most:g}"


class Number(click.FloatRange):
    """A number between bounds, of which it speaks as a person would."""

    name = "number"

    def convert(
        self, value: float, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that was typed; `nan` is none, though no bound excludes it."""
        found: float = super().convert(value, param, ctx)
        if math.isnan(found):
            self.fail(f"{value!r} is not a valid number", param, ctx)
        return found

    def _describe_range(self) -> str:
        return _range(self.min, self.max)


class Seconds(Number):
    """A time between bounds: seconds, or as the configuration writes it (`90s`, `1m30s`, `500ms`)."""

    name = "time"

    def convert(
        self, value: float | str, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds."""
        written = durations.parse_s(value) if isinstance(value, str) else None
        try:
            number = float(value) if written is None else written
        except ValueError:
            self.fail(f"{value!r} is no time; write 90, 90s, 1m30s or 500ms", param, ctx)
        return super().convert(number, param, ctx)


class Whole(click.IntRange):
    """A whole number between bounds."""

    name = "whole number"

    def _describe_range(self) -> str:
        return _range(self.min, self.max)


class VerbCommand(click.Command):
    """A command with `examples`, shown above its options."""

    examples: tuple[str, ...] = ()

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What it does, then how it is typed."""
        super().format_help_text(ctx, formatter)
        with formatter.section("Examples"):
            formatter.write("".join(f"  {example}\n" for example in self.examples))


class VerbGroup(click.Group):
    """A group that answers a misspelt member with a suggestion."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The member that is meant."""
        name, known = args[0], self.list_commands(ctx)
        if name not in known and not name.startswith("-"):
            raise click.UsageError(f"there is no command `{name}`{suggestion(name, known)}", ctx)
        return super().resolve_command(ctx, args)


def verb(
    *examples: str, name: str | None = None, own_help: bool = False
) -> Callable[[Callable[..., int | None]], click.Command]:
    """Make a function the command of a verb; its docstring is the help, its result the exit code.

    Args:
        examples: two or three whole command lines.
        name: of a member of a group.
        own_help: the function takes `--help` itself.
    """

    def decorate(function: Callable[..., int | None]) -> click.Command:
        made = click.command(name, cls=VerbCommand, add_help_option=not own_help)(function)
        made.examples = examples
        return made

    return decorate
