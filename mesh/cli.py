"""THE ENTRY: the table of verbs, and the table of errors and their exit codes.

A verb is imported when it is called and not before: `mesh --help` must cost no more than
Python and click. What a verb does is its own file's business; this one only opens the door.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple, cast

import click

from mesh import __version__
from mesh import errors as failures
from mesh.commands import output
from mesh.commands.options import Options
from mesh.commands.verb import VerbGroup
from mesh.configs.complaints import suggestion

if TYPE_CHECKING:
    from collections.abc import Sequence

    from click.shell_completion import CompletionItem

INTERRUPTED = 130


class Verb(NamedTuple):
    """One line of `mesh --help`; the code is `mesh/commands/<name>.py`."""

    group: str
    summary: str


VERBS: dict[str, Verb] = {
    "up": Verb("Run", "Start services and what they need."),
    "down": Verb("Run", "Stop everything, level by level."),
    "start": Verb("Run", "Start services that are stopped or have failed."),
    "stop": Verb("Run", "Stop services; the others go on."),
    "restart": Verb("Run", "Stop and start services."),
    "kill": Verb("Run", "Send a signal to services."),
    "run": Verb("Run", "Run one service in this terminal, in place of the supervised one."),
    "ps": Verb("Look", "Show the state of every program."),
    "ls": Verb("Look", "Show the meshes of this user that run on this machine."),
    "dash": Verb("Look", "Watch everything on one screen."),
    "explain": Verb("Look", "Say why a service is in its state."),
    "graph": Verb("Look", "Draw who asks whom and who tells whom."),
    "logs": Verb("Look", "Read the programs' logs."),
    "trace": Verb("Look", "Show one story as a waterfall, or list the latest ones."),
    "events": Verb("Look", "Read the events the services tell."),
    "wait": Verb("Look", "Wait until services are ready, down or idle."),
    "call": Verb("Try", "Call an operation of a service."),
    "chaos": Verb("Try", "Break something on purpose, for a while."),
    "exercise": Verb(
        "Try", "Load the running mesh, break it on purpose, and judge whether anything was lost."
    ),
    "verify": Verb("Try", "Check every promise over all databases and the event log."),
    "backup": Verb("Keep", "Copy every database at one cut, while the mesh serves."),
    "restore": Verb("Keep", "Bring databases back from a backup."),
    "config": Verb("Project", "Check the configuration and print it resolved."),
    "schema": Verb(
        "Project", "Print the documents of services, and find what in them breaks others."
    ),
    "doctor": Verb("Project", "Check whether this machine can run the mesh."),
    "completion": Verb("Project", "Print what makes a shell complete mesh's words."),
    "version": Verb("Project", "Print the versions of mesh and what it stands on."),
}

_NAME_CELLS = max(map(len, VERBS)) + 2

EXIT_CODES: tuple[tuple[type[failures.MeshError], int], ...] = (
    (failures.WrongUsage, 2),
    (failures.NotFound, 2),
    (failures.NotRunning, 3),
    (failures.DeadlineExceeded, 4),
    (failures.ProgramFailed, 5),
    (failures.ConfigInvalid, 6),
    (failures.AssertionFailed, 7),
    (failures.MeshError, 1),
)
"""The first line that fits decides."""

INTRO = """\
mesh runs a system of microservices on one machine, exercises it, and proves that nothing was lost.

  mesh up              start the services and follow their logs
  mesh ps              what runs, and how it is
  mesh call            call an operation of a service
  mesh events tail     watch the events the services tell
  mesh down            stop everything

Try:
  mesh up -d && mesh call order create
  mesh events tail -n 20

All commands: mesh --help      One of them: mesh call --help
"""


class Verbs(VerbGroup):
    """A group whose members are modules, imported by name when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """The table's names, in its order."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (click's signature)
        """Import the verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"mesh.commands.{cmd_name}")
        return cast("click.Command", module.command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """The table's names or our options, without importing any of the verbs."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  (only for a shell)

        found = [
            CompletionItem(name, help=verb.summary)
            for name, verb in VERBS.items()
            if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (click's signature)
        """The table, by group, without importing anything."""
        for group in dict.fromkeys(verb.group for verb in VERBS.values()):
            rows = [
                (name.ljust(_NAME_CELLS), verb.summary)
                for name, verb in VERBS.items()
                if verb.group == group
            ]
            with formatter.section(group):
                formatter.write_dl(rows)


@click.command(
    cls=Verbs,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Environment: MESH_FILE, MESH_DATA_DIR, MESH_FREE_PORTS=1, NO_COLOR.  "
    "Exit codes: 0 done, 1 it failed, 2 wrong usage, 3 nothing runs here, 4 timed out, "
    "5 a service failed or a port is taken, 6 configuration invalid, 7 an assertion failed, "
    "130 interrupted.",
)
@click.option("-f", "--file", metavar="FILE", help="The configuration to use.")
@click.option("-p", "--project-name", metavar="NAME", help="Run beside others, in data/NAME.")
@click.option("--data-dir", metavar="DIR", help="Where to keep data instead of data/.")
@click.option(
    "--color",
    type=click.Choice(["auto", "always", "never"]),
    default="auto",
    help="When to colour; auto is on a terminal.",
)
@click.option("--debug", is_flag=True, help="Show tracebacks.")
@click.version_option(__version__, message="mesh %(version)s")
@click.pass_context
def cli(
    ctx: click.Context,
    file: str | None,
    project_name: str | None,
    data_dir: str | None,
    color: output.ColorMode,
    debug: bool,  # noqa: FBT001  (click passes every option by name)
) -> None:
    """Run a system of microservices on one machine, exercise it, and prove nothing was lost.

    Global options stand before the command: mesh -p shop2 up
    """
    output.configure(color)
    options = ctx.ensure_object(Options)
    options.file, options.name, options.data, options.debug = file, project_name, data_dir, debug
    if ctx.invoked_subcommand is None:
        output.block(INTRO)


OUTSIDE = frozenset(
    {
        *(errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT),
        *(errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EIO),
    }
)
"""What a file system says of a file is no bug of ours, wherever it is met."""


def exit_code(error: failures.MeshError) -> int:
    """The number that says what happened, by the table above."""
    return next(code for shape, code in EXIT_CODES if isinstance(error, shape))


def _usage(error: click.ClickException) -> failures.WrongUsage:
    """What click complains of, in our shape."""
    if isinstance(error, click.NoSuchOption):
        near = [option.lstrip("-") for option in error.possibilities or ()]
        found = suggestion(error.option_name.lstrip("-"), near).replace("`", "`--", 1)
        text = f"there is no option `{error.option_name}`{found}"
    elif isinstance(error, click.exceptions.NoArgsIsHelpError) and error.ctx is not None:
        group = error.ctx.command
        words = group.list_commands(error.ctx) if isinstance(group, click.Group) else []
        text = f"`{error.ctx.command_path}` needs a command: {', '.join(words)}"
    else:
        message = error.format_message()
        text = message[:1].lower() + message[1:].rstrip(".")
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    return failures.WrongUsage(text, hint=f"{ctx.command_path if ctx else 'mesh'} --help")


def _report(error: BaseException, *, debug: bool) -> int:
    """Tell what went wrong, in the one shape; the exit code."""
    if debug:
        output.note_block("".join(traceback.format_exception(error)))
    if isinstance(error, click.ClickException):
        error = _usage(error)
    elif isinstance(error, OSError) and error.errno in OUTSIDE:
        error = failures.MeshError(
            f"{error.filename or 'the output'}: {str(error.strerror).lower()}",
            code="file-system",
            hint="mesh doctor",
        )
    elif not isinstance(error, failures.MeshError):
        error = failures.MeshError(
            f"{type(error).__name__}: {error}",
            code="internal",
            hint="this is a bug in mesh; the same with `mesh --debug …` shows where",
        )
    output.failure(error)
    return exit_code(error)


def run(args: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    options = Options()
    try:
        result = cli.main(list(args), prog_name="mesh", standalone_mode=False, obj=options)
    except output.ReaderGone:
        with contextlib.suppress(OSError):  # or the interpreter complains of stdout as it ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001  (the door: everything is told in one shape)
        try:
            return _report(error, debug=options.debug)
        except output.ReaderGone:
            return 1
    return result if isinstance(result, int) else 0


def main() -> None:
    """Run this process's command line and exit.

    At once: taking an interpreter apart with all that was imported takes tens of milliseconds, in
    which nothing is left to do. Whatever must be put away has been, by whoever took it out.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
    code = run(sys.argv[1:])
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:  # nobody reads any more, which is no failure
            pass
        except OSError:
            code = code or 1
    os._exit(code)
