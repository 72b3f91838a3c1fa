"""Errors as HTTP tells them: the one table from error to status, and RFC 9457 documents."""

from __future__ import annotations

from mesh import codec, errors
from mesh.errors import InvalidInput, MeshError, Overloaded
from mesh.framework.openapi import PROBLEM
from mesh.framework.reply import Reply

STATUS: dict[type[MeshError], int] = {
    errors.InvalidInput: 400,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.Gone: 410,
    errors.PreconditionFailed: 412,
    errors.TooLarge: 413,
    errors.Refused: 400,
    errors.Throttled: 429,
    errors.DeadlineExceeded: 504,
    errors.StorageFull: 507,
    errors.Unavailable: 503,
    errors.MeshError: 500,
}
_BY_CODE = {
    "body-timeout": 408,
    "idempotency-key-reused": 422,
    "method-not-allowed": 405,
    "misdirected": 421,
    "precondition-required": 428,
}

_TITLES = {
    400: "Bad request",
    401: "Not authenticated",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Request timeout",
    409: "Conflict",
    410: "Gone",
    412: "Changed meanwhile",
    413: "Too large",
    421: "Misdirected request",
    422: "Unprocessable",
    428: "Precondition required",
    429: "Too many attempts",
    500: "Internal error",
    503: "Not available now",
    504: "No answer in time",
    507: "No space left",
}


def status_of(error: MeshError) -> int:
    """The HTTP status that tells of this error."""
    special = _BY_CODE.get(error.code)
    if special is not None:
        return special
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def problem(error: MeshError, trace_id: str, instance: str) -> Reply:
    """An error as RFC 9457 tells it. What is broken inside stays inside."""
    status = status_of(error)
    ours = status == 500  # noqa: PLR2004  the one status that tells nothing of the inside
    document: dict[str, object] = {
        "type": f"/problems/{error.code}",
        "title": _TITLES.get(status, "Error"),
        "status": status,
        "detail": "An internal error; the log has it under this trace id."
        if ours
        else error.detail,
        "instance": instance,
        "code": error.code,
        "trace_id": trace_id,
    }
    headers = {}
    if isinstance(error, InvalidInput) and error.pointer:
        document["errors"] = [{"pointer": error.pointer, "detail": error.detail}]
    if isinstance(error, errors.Throttled):
        document["retry_after_s"] = error.retry_after_s
        headers["Retry-After"] = str(max(1, round(error.retry_after_s)))
    elif status == 503:  # noqa: PLR2004  RFC 9110 wants to know when
        headers["Retry-After"] = "1"
    if isinstance(error, Overloaded):
        document["overloaded"] = True
        headers["Mesh-Overloaded"] = "1"
    if status == 405:  # noqa: PLR2004  RFC 9110 requires the list
        headers["Allow"] = ", ".join(str(name) for name in codec.plain(error.facts["allowed"]))
    if status == 401:  # noqa: PLR2004  RFC 6750
        headers["WWW-Authenticate"] = "Bearer"
    if not ours:
        document.update({k: v for k, v in error.facts.items() if k not in document})
    return Reply(status, codec.encode(document), headers, PROBLEM)
