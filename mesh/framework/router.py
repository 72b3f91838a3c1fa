"""Finds the operation that a method and a path name, and the fields in the path."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mesh import errors
from mesh.errors import NotFound

if TYPE_CHECKING:
    from mesh.framework.service import Operation, Service


class Router:
    """Finds an operation by method and path."""

    def __init__(self, service: Service) -> None:
        """The templates are compiled once."""
        self._rows = [
            (re.compile(re.sub(r"\{([a-z_0-9]+)\}", r"(?P<\1>[^/]+)", row.path)), row)
            for row in service.operations
        ]
        self.routes = {row.name: row.path for row in service.operations}
        self._fixed = {
            (row.method, row.path): row for row in service.operations if not row.path_fields
        }

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]]:  # type: ignore[type-arg]
        """The operation and its path fields, as text.

        Args:
            path: percent-decoded but for %2F and %25, so that a field may hold a slash.

        Raises: NotFound; Refused (code `method-not-allowed`, fact `allowed`).
        """
        row = self._fixed.get((method, path))
        if row is not None:
            return row, {}
        allowed = set()
        for pattern, row in self._rows:
            match = pattern.fullmatch(path)
            if match and row.method == method:
                return row, {
                    name: text.replace("%2F", "/").replace("%25", "%")
                    for name, text in match.groupdict().items()
                }
            if match:
                allowed.add(row.method)
        if allowed:
            raise errors.Refused(
                f"{method} is not possible here",
                code="method-not-allowed",
                allowed=sorted(allowed),
            )
        raise NotFound(f"nothing is at {path}", code="no-such-route")
