"""In whose name a call is made.

The control socket gives an operator's token of at most a minute; the service with an `act-as`
operation turns it into a user's. So no password is needed here, and the act is logged there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mesh.commands import http
from mesh.commands.operations import Document, items, members
from mesh.commands.request import build
from mesh.configs.complaints import suggestion
from mesh.errors import NotFound, ServiceUnavailable, WrongUsage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mesh.commands.operations import Operation

ACT_AS = "act-as"
OPERATOR = "operator"

USERS = "user"
"""The service asked first for ACT_AS; any other that has the operation will do."""


@dataclass(frozen=True, slots=True)
class Seeded:
    """A user that the configuration plants: the part of the address before `@`, and roles."""

    login: str
    roles: tuple[str, ...]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who calls, for a person, and the token that shows it; None for nobody in particular."""

    said: str = ""
    bearer: str | None = None


def seeded_users(directory: Path) -> list[Seeded]:
    """The users of every seed that `up` wrote for the running services, in order.

    Args:
        directory: holds `<service>.json`; absent or unreadable ones give nobody.
    """
    found: list[Seeded] = []
    for file in sorted(directory.glob("*.json")):
        try:
            seed: object = json.loads(file.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        for raw in items(members(seed).get("users")):
            email = members(raw).get("email")
            if isinstance(email, str):
                roles = tuple(str(role) for role in items(members(raw).get("roles")))
                name = str(members(raw).get("id") or "")
                found.append(Seeded(email.partition("@")[0], roles, name))
    return found


@dataclass(frozen=True, slots=True)
class Speakers:
    """Finds who speaks.

    `token(subject, audience)` is the control socket's, `documents(service)` the OpenAPI document,
    `urls` every service that serves HTTP, `users` those seeded.
    """

    token: Callable[[str, str], str]
    document: Callable[[str], Document]
    urls: dict[str, str]
    users: list[Seeded]
    timeout_s: float

    def choose(
        self, service: str, operation: Operation, name: str | None, target: str = ""
    ) -> Speaker:
        """The speaker for one operation: `name` if given, else the first who may.

        Of what belongs to somebody, that is who is named in the `target` that is asked for.

        Raises: WrongUsage (nobody fits, or only a service may), NotFound (no such user), and
        what asking for the tokens raises.
        """
        if name is not None:
            return self._named(service, operation, name)
        access = operation.access
        if access.anyone:
            return Speaker()
        path = target.partition("?")[0].split("/")
        named = [user for user in self.users if user.id and user.id in path]
        for user in (*named, *self.users):
            if "" in access.roles or set(user.roles) & set(access.roles):
                return self.user(user.login)
        if access.operator:
            return self._own(OPERATOR, service)
        if access.services:
            raise WrongUsage(
                f"{service} {operation.name} is for services only",
                hint=f"mesh call {service} {operation.name} --as {access.services[0]} …",
            )
        raise WrongUsage(
            f"no seeded user may call {service} {operation.name} (it is for {access})",
            hint=f"name one: mesh call {service} {operation.name} --as LOGIN …",
        )

    def _named(self, service: str, operation: Operation, name: str) -> Speaker:
        is_user = any(user.login == name for user in self.users)
        if name == OPERATOR or (name in self.urls and not is_user):
            return self._own(name, service)
        if name in operation.access.services:
            return self._own(name, service)
        return self.user(name)

    def _own(self, subject: str, audience: str) -> Speaker:
        """The operator or a service, in its own name."""
        return Speaker(subject, self.token(subject, audience))

    def user(self, login: str) -> Speaker:
        """A user of that login. Raises: NotFound, ServiceUnavailable, WrongUsage."""
        service, document, operation = self._act_as()
        request = build(document, operation, [f"login={login}"], None)
        answer = http.ask(
            self.urls[service],
            request.method,
            request.target,
            body=request.body,
            headers={"Authorization": f"Bearer {self.token(OPERATOR, service)}"},
            timeout_s=self.timeout_s,
        )
        said = members(answer.body)
        token = said.get("access_token")
        if isinstance(token, str):
            return Speaker(login, token)
        why = f"{said.get('detail') or said.get('title') or f'status {answer.status}'}"
        logins = [user.login for user in self.users]
        others = [known for known in logins if known != login]
        if answer.status == 404:  # noqa: PLR2004  (no such user, in HTTP's words)
            raise NotFound(
                f"there is no user `{login}`{suggestion(login, others)}",
                code="unknown-user",
                hint=f"seeded are: {', '.join(logins) or 'none'}",
            )
        raise ServiceUnavailable(f"{service} does not let us act as {login}: {why}")

    def _act_as(self) -> tuple[str, Document, Operation]:
        for service in _first(USERS, self.urls):
            document = self.document(service)
            operation = document.operations.get(ACT_AS)
            if operation is not None:
                return service, document, operation
        raise WrongUsage(
            f"no service here has an operation `{ACT_AS}`, so nobody can be acted as",
            hint="send a token of your own: -H 'Authorization: Bearer …'",
        )


def _first(name: str, names: Iterable[str]) -> list[str]:
    return sorted(names, key=lambda other: other != name)
