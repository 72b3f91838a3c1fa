"""Finds the operation that a method and a path name, and the fields in the path."""

from __future__ import annotations

import re
from collections import defaultdict
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
        self._by_method: dict[str, list[tuple[re.Pattern[str], Operation]]] = defaultdict(list)  # type: ignore[type-arg]
        for pattern, row in self._rows:
            if row.path_fields:
                self._by_method[row.method].append((pattern, row))
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
        for pattern, row in self._by_method.get(method, ()):
            match = pattern.fullmatch(path)
            if match:
                fields = match.groupdict()
                if "%" in path:
                    for name, text in fields.items():
                        fields[name] = text.replace("%2F", "/").replace("%25", "%")
                return row, fields
        allowed = {row.method for pattern, row in self._rows if pattern.fullmatch(path)}
        if allowed:
            raise errors.Refused(
                f"{method} is not possible here",
                code="method-not-allowed",
                allowed=sorted(allowed),
            )
        raise NotFound(f"nothing is at {path}", code="no-such-route")
