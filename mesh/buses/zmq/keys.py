"""Whom the bus believes: who signed the token of a greeting may speak for that name and no other.

A conversation is bound to the greeting that began it, so nothing else is signed. Where no keys were
given there is no `Keys`, and whoever can reach the sockets is believed; the bus says so at its start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh import codec, tokens
from mesh.buses.contract import AUDIENCE
from mesh.buses.zmq.protocol.frames import Hello
from mesh.errors import InvalidInput, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mesh.buses.zmq.protocol.frames import Attach

OPERATOR = "operator"
OPERATOR_NAME = "cli"
"""The stream and the consumer that the operator's own tools are."""

PART = "/"
"""`order/audit` is a second consumer of the program `order`."""


def read(path: Path) -> Keys:
    """The keys in the bus's identity file. Raises: InvalidInput."""
    try:
        content = codec.decode(path.read_bytes(), tokens.IdentityFile)
    except OSError as error:
        raise InvalidInput(f"the keys of the bus, {path}: {error.strerror}") from None
    return Keys(content.keys)


class Keys:
    """The public keys of the operator and of every program that may use the bus."""

    def __init__(self, keys: Mapping[str, str]) -> None:
        """`keys`: name → the key's public `x`. Raises: InvalidInput."""
        self._keys = {name: tokens.public_key(x) for name, x in keys.items()}

    def knows(self, consumer: str) -> bool:
        """Whether a consumer is one of a program that this mesh still has."""
        return consumer.partition(PART)[0] in {*self._keys, OPERATOR_NAME}

    def signer(self, token: str) -> str:
        """Who signed this token for the bus.

        Raises: Unauthenticated (code `token-expired` if it was good once).
        """
        return tokens.verify_peer(token, self._keys, aud=AUDIENCE).iss

    def refusal(self, greeting: Hello | Attach) -> str | None:
        """Why a greeting is refused (SEC-17).

        Only its own stream is anybody's to write; any may be read, under one's own name.

        Returns: None for one that is believed; "" for one whose token has only expired on its
            way: the next will bring a fresh one.
        """
        try:
            signer = self.signer(greeting.token)
        except Unauthenticated as error:
            return "" if error.code == "token-expired" else error.detail
        own = OPERATOR_NAME if signer == OPERATOR else signer
        if isinstance(greeting, Hello):
            allowed, what = greeting.stream == own, f"write the stream {greeting.stream}"
        else:
            allowed = greeting.consumer.partition(PART)[0] == own
            what = f"read as {greeting.consumer}"
        return None if allowed else f"{signer} may not {what}"
