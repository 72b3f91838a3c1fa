"""What services tell the operator alone: their counters, parked and diverged events.

The token comes from the control socket, so whoever may talk to the supervisor may ask this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import clock
from mesh.commands import http
from mesh.commands.operations import members
from mesh.configs.check import BUS
from mesh.errors import Conflict, NotFound, NotRunning, ServiceUnavailable, WrongUsage

if TYPE_CHECKING:
    from mesh.commands.project import Project

TOKEN_S = 30.0
"""A token is asked for anew after this; it lives for 60 s."""

READING_S = 2.0
"""For one service of many; one that takes longer is anything but well."""

ASK_S = 5.0
"""For one page: a parked event offered again may wait for a busy writer."""

OK, CONFLICT, NOT_FOUND = 200, 409, 404


class Operator:
    """Asks running services as the operator."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._tokens: dict[str, tuple[float, str]] = {}

    @property
    def services(self) -> dict[str, str]:
        """Name → URL of everything that runs and may have pages. Raises: NotRunning."""
        urls = self._project.running().urls
        return {name: url for name, url in urls.items() if name != BUS}

    def ask(self, name: str, url: str, method: str, target: str, timeout_s: float) -> http.Answer:
        """One page. Raises: what `http.ask` raises, NotRunning."""
        return http.ask(
            url,
            method,
            target,
            headers={"Authorization": f"Bearer {self._token(name)}"},
            timeout_s=timeout_s,
        )

    def told(self, name: str, method: str, target: str) -> dict[str, object]:
        """What one service answers to one of its pages.

        Raises: NotRunning (the mesh, or this service); NotFound, Conflict (as it says);
            WrongUsage (it has no such page); ServiceUnavailable, DeadlineExceeded.
        """
        url = self.services.get(name)
        if url is None:
            raise WrongUsage(f"{name} serves no HTTP, so it cannot be asked")
        try:
            answer = self.ask(name, url, method, target, ASK_S)
        except http.ConnectionRefused:
            raise NotRunning(f"{name} does not run", hint=f"mesh start {name}") from None
        body = members(answer.body)
        if answer.status == OK:
            return dict(body)
        code, why = str(body.get("code", "")), str(body.get("detail", answer.status))
        if answer.status == NOT_FOUND and code == "no-such-route":
            raise WrongUsage(f"{name} is no service of this framework: it handles its own events")
        if answer.status == NOT_FOUND:
            raise NotFound(why, code=code or None, hint="mesh events parked ls")
        if answer.status == CONFLICT:
            raise Conflict(why, code=code or None)
        raise ServiceUnavailable(f"{name} answers {answer.status}: {why}")

    def _token(self, audience: str) -> str:
        made_s, token = self._tokens.get(audience, (0.0, ""))
        if not token or clock.monotonic_s() - made_s > TOKEN_S:
            token = self._project.remote().token("operator", audience)
            self._tokens[audience] = clock.monotonic_s(), token
        return token
