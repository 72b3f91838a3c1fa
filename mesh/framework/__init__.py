"""What every service stands on. A service's author needs the names below and `mesh.errors`.

A service is a table (`Service`); its actions get a `Context`, its transaction functions and
listeners a `Tx`. The framework serves the table over HTTP, keeps outbox and inbox, identity,
idempotency and deferred work. It knows no service and no orchestrator.
"""

from mesh import tokens
from mesh.client import Call, facts_as
from mesh.clock import iso
from mesh.codec import PERSONAL, SECRET
from mesh.database import Reader
from mesh.framework.conditional import check_match
from mesh.framework.context import Context
from mesh.framework.identity import Caller
from mesh.framework.service import (
    ANYONE,
    OPERATOR,
    OWNER,
    USER,
    Agreement,
    Allow,
    Deferred,
    Invariant,
    Listener,
    Move,
    Moves,
    Operation,
    Seed,
    Service,
    Tells,
    owner_or,
    roles,
    services,
)
from mesh.framework.transaction import Tx
from mesh.resilience.policy import Policy
from mesh.telemetry import facts
from mesh.tokens import SigningKey

__all__ = [
    "ANYONE",
    "OPERATOR",
    "OWNER",
    "PERSONAL",
    "SECRET",
    "USER",
    "Agreement",
    "Allow",
    "Call",
    "Caller",
    "Context",
    "Deferred",
    "Invariant",
    "Listener",
    "Move",
    "Moves",
    "Operation",
    "Policy",
    "Reader",
    "Seed",
    "Service",
    "SigningKey",
    "Tells",
    "Tx",
    "check_match",
    "facts",
    "facts_as",
    "iso",
    "owner_or",
    "roles",
    "services",
    "tokens",
]
