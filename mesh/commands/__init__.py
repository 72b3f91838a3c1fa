"""The verbs, one a file; `mesh.cli` loads only the one that is called.

Each module has a `command`. It prints through `output` and raises the errors of `mesh.errors`;
turning those into exit codes is the door's business, not a verb's.
"""
