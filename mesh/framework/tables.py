"""Where the table of a service lies: in the module that the configuration names."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

from mesh.errors import InvalidInput
from mesh.framework.service import Service

if TYPE_CHECKING:
    from types import ModuleType


def find_service(name: str, configured: str) -> tuple[Service, Path]:
    """The table that a configured `module:` means, and the folder of its schema files.

    That is the attribute `service` of the module `NAME.service` if there is one, else of `NAME`.

    Raises: InvalidInput.
    """
    try:
        module = importlib.import_module(name)
        if hasattr(module, "__path__") and importlib.util.find_spec(f"{name}.service"):
            module = importlib.import_module(f"{name}.service")
    except (ImportError, SyntaxError) as error:
        raise InvalidInput(f"module {name!r} cannot be imported: {error}") from error
    found = getattr(module, "service", None)
    if not isinstance(found, Service):
        raise InvalidInput(
            f"module {name!r} has no `service = Service(…)`",
            hint="`from mesh.framework import Service` and put the table in a variable `service`",
        )
    if found.name != configured:
        raise InvalidInput(
            f"module {name!r} is the service {found.name!r}, configured as {configured!r}",
            hint=f"call it `{found.name}:` in the configuration",
        )
    return found, _folder(module) / "schema"


def _folder(module: ModuleType) -> Path:
    return Path(module.__file__ or ".").resolve().parent
