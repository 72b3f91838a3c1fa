"""`mesh config`."""

from __future__ import annotations

import click

from mesh.commands import output, resolved
from mesh.commands.project import Project
from mesh.commands.verb import json_option, verb


@verb("mesh config", "mesh config -q && echo valid", "mesh -f configs/minimal.yaml config --json")
@click.option("-q", "--quiet", is_flag=True, help="Only check.")
@json_option
@click.pass_context
def command(ctx: click.Context, *, quiet: bool, as_json: bool) -> None:
    """Check the configuration and print it resolved: defaults and variables filled in.

    What is printed as YAML is a configuration again, and means the same.
    """
    project = Project.of(ctx)
    config = project.config
    if quiet:
        return
    document = resolved.document(config)
    if as_json:
        output.json_line(
            {
                "schema": "mesh.config/1",
                "file": config.file,
                "root": config.root,
                "data_dir": str(project.data),
                "config": document,
            }
        )
        return
    output.note(f"{config.file}  (data: {project.data})")
    output.block(resolved.as_yaml(document))
