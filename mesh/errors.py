"""Everything that can go wrong, by what the caller should do about it.

MeshError
├── Refused                 yours to mend; trying the same again will not help
│   ├── InvalidInput          malformed or out of range; `errors` lists {pointer, detail}
│   ├── Unauthenticated       no identity, or one that does not hold
│   ├── Forbidden             known, but not allowed
│   ├── NotFound · Gone       no such thing (any more)
│   ├── Conflict              it exists, is short, or its state does not allow this
│   ├── PreconditionFailed    the caller's picture is older than ours
│   ├── TooLarge              over a stated bound
│   ├── WrongUsage            the command line, not the data
│   └── ConfigInvalid         `complaints` lists every one, with file:line:col
├── Unavailable             ours; try again within your deadline
│   ├── ServiceUnavailable    a peer is away, or does not run
│   ├── BusUnavailable · DatabaseBusy · StorageFull
│   ├── Overloaded            a bound was reached
│   ├── Throttled             too many tries; `retry_after_s` says when
│   └── DeadlineExceeded      it may or may not have happened
├── NotRunning              no mesh here to talk to
├── AlreadyRunning          another mesh holds this data directory
├── ProgramFailed           a program would not start, or keeps dying
│   └── PortTaken
├── AssertionFailed         an invariant or a stated expectation does not hold
└── Broken                  a bug or damaged data: stop, keep the evidence
    ├── DatabaseBroken · LogBroken
    │   └── DatabaseDamaged       opening it again would not help
    └── SchemaMismatch

An error carries facts: a stable `code`, what happened, members for the reader. It never
carries an HTTP status or an exit code: those are tables at the doors (`framework/app.py`,
`cli.py`), since only the door speaks that language.
"""

from __future__ import annotations


class MeshError(Exception):
    """Something went wrong.

    Args:
        detail: what failed, where and why, for a person; the class docstring's first line if empty.
        code: stable kebab-case name of the fact; the class's own if not given.
        hint: what to do next, best a command.
        evidence: lines that show it (last log lines, the offending text).
        facts: members that travel with it (JSON values), for example `shortages`.
    """

    code = "error"

    def __init__(
        self,
        detail: str = "",
        *,
        code: str | None = None,
        hint: str | None = None,
        evidence: tuple[str, ...] = (),
        **facts: object,
    ) -> None:
        """Keep the facts; `str(error)` is the detail."""
        self.detail = detail or (type(self).__doc__ or "").split("\n", 1)[0]
        if code is not None:
            self.code = code
        self.hint = hint
        self.evidence = evidence
        self.facts = facts
        super().__init__(self.detail)


class Refused(MeshError):
    """Refused: the request cannot be done as it stands."""

    code = "refused"


class InvalidInput(Refused):
    """The input is malformed or out of range."""

    code = "invalid-input"

    def __init__(
        self,
        detail: str = "",
        *,
        pointer: str = "",
        code: str | None = None,
        hint: str | None = None,
        evidence: tuple[str, ...] = (),
        **facts: object,
    ) -> None:
        """Name the place by its JSON pointer (RFC 6901); "" is the whole document."""
        super().__init__(detail, code=code, hint=hint, evidence=evidence, **facts)
        self.pointer = pointer


class Unauthenticated(Refused):
    """No valid identity was shown."""

    code = "unauthenticated"


class Forbidden(Refused):
    """This identity may not do that."""

    code = "forbidden"


class NotFound(Refused):
    """There is no such thing."""

    code = "not-found"


class Gone(Refused):
    """It was there and is no more."""

    code = "gone"


class Conflict(Refused):
    """The present state does not allow this."""

    code = "conflict"


class PreconditionFailed(Refused):
    """It has changed since you read it."""

    code = "precondition-failed"


class TooLarge(Refused):
    """Over a stated bound."""

    code = "too-large"


class WrongUsage(Refused):
    """The command line is wrong."""

    code = "usage"


class ConfigInvalid(Refused):
    """The configuration is invalid."""

    code = "config-invalid"

    def __init__(self, complaints: tuple[str, ...]) -> None:
        """Each complaint is one line: `file:line:col: what is wrong, did you mean …`."""
        super().__init__("the configuration is invalid", evidence=complaints)
        self.complaints = complaints


class Unavailable(MeshError):
    """Not possible just now; try again."""

    code = "unavailable"


class ServiceUnavailable(Unavailable):
    """A service that is needed for this does not answer."""

    code = "service-unavailable"


class BusUnavailable(Unavailable):
    """The bus does not answer."""

    code = "bus-unavailable"


class DatabaseBusy(Unavailable):
    """The database could not take this in time."""

    code = "database-busy"


class StorageFull(Unavailable):
    """No space is left to write to; what was accepted is kept."""

    code = "storage-full"


class Overloaded(Unavailable):
    """A bound was reached; the request was not begun."""

    code = "overloaded"


class Throttled(Unavailable):
    """Too many attempts."""

    code = "throttled"

    def __init__(self, detail: str = "", *, retry_after_s: float) -> None:
        """Say when another attempt is welcome, in seconds."""
        super().__init__(detail)
        self.retry_after_s = retry_after_s


class DeadlineExceeded(Unavailable):
    """No answer in time; it may or may not have happened."""

    code = "deadline-exceeded"


class NotRunning(MeshError):
    """No mesh runs here."""

    code = "not-running"


class AlreadyRunning(MeshError):
    """A mesh runs here already."""

    code = "already-running"


class ProgramFailed(MeshError):
    """A program would not start, or keeps dying."""

    code = "program-failed"


class PortTaken(ProgramFailed):
    """A port is taken by another program."""

    code = "port-taken"


class AssertionFailed(MeshError):
    """A stated expectation does not hold."""

    code = "assertion-failed"


class Broken(MeshError):
    """A bug, or damaged data."""

    code = "broken"


class DatabaseBroken(Broken):
    """The database is damaged or cannot be written safely."""

    code = "database-broken"


class DatabaseDamaged(DatabaseBroken):
    """What is in the database is damaged: opening it again would not help."""

    code = "database-damaged"


class LogBroken(Broken):
    """The event log is damaged."""

    code = "log-broken"


class SchemaMismatch(Broken):
    """The database's schema is not the one this program knows."""

    code = "schema-mismatch"
