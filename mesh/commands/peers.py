"""The running services, as the command line asks them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from mesh.commands import http
from mesh.commands.operations import Document
from mesh.errors import NotRunning, ServiceUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesh.commands.http import Answer
    from mesh.commands.project import Project

FAILED_FROM = 400
"""HTTP's errors begin here."""


@dataclass
class Peers:
    """Those of one project; a question takes at most `timeout_s`."""

    project: Project
    timeout_s: float

    @cached_property
    def urls(self) -> dict[str, str]:
        """Every service that serves HTTP, by name. Raises NotRunning."""
        return self.project.running().services

    def document(self, service: str) -> Document:
        """The service's OpenAPI document. Raises NotRunning, ServiceUnavailable."""
        answer = self.ask(service, "GET", "/openapi.json", headers={})
        if answer.status >= FAILED_FROM or not isinstance(answer.body, dict):
            raise ServiceUnavailable(
                f"{service} serves no OpenAPI document at /openapi.json (status {answer.status})",
                code="no-openapi",
            )
        return Document(answer.body)

    def ask(
        self,
        service: str,
        method: str,
        target: str,
        *,
        body: object = None,
        headers: Mapping[str, str],
    ) -> Answer:
        """One request; a service that nobody serves is told apart from a mesh that is gone."""
        try:
            return http.ask(
                self.urls[service],
                method,
                target,
                body=body,
                headers=headers,
                timeout_s=self.timeout_s,
            )
        except http.ConnectionRefused:
            self.project.remote().status()  # raises NotRunning when nothing runs at all
            raise NotRunning(
                f"{service} does not run", code="service-stopped", hint=f"mesh start {service}"
            ) from None
