"""Become one program of a benchmark: `launch.py SPECIFICATION NAME`.

The specification is JSON: name → `entry` (`module:function`), `args`, and the `environment` that
`mesh up` would give. So every process manager runs the same services by the same short command.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path


def main() -> None:
    program = json.loads(Path(sys.argv[1]).read_text("utf-8"))[sys.argv[2]]
    os.environ.update(program["environment"])
    module, _, function = program["entry"].partition(":")
    getattr(importlib.import_module(module), function)(*program["args"])


if __name__ == "__main__":
    main()
