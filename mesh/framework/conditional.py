"""What a caller has read already: versions as entity tags (RFC 9110, 13), and answers that carry them.

An entity's tag is its version, behind a dot with what else changes in it (`etag`): If-Match asks for
the version alone, If-None-Match for all of it. Any other answer's tag is a digest of its bytes. Refuses to change an
entity for somebody who does not say which version of it they have seen, where the table asks so.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from mesh import codec
from mesh.errors import InvalidInput, PreconditionFailed, Refused
from mesh.framework.reply import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mesh.framework.idempotency import Answer
    from mesh.framework.request import Request

ANY = frozenset({"*"})
"""If-Match: * matches whatever is there."""

TAGS_MAX = 20
"""Entity tags in one header; more are no honest list of what one has read."""

_TAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e]*)"')


def required_match(header: str | None) -> frozenset[str]:
    """The versions that the caller says it has read, of an operation that asks for them.

    Raises: Refused (`precondition-required`); InvalidInput.
    """
    if header is None:
        raise Refused(
            "say in If-Match which version you have read: its ETag, or * for any",
            code="precondition-required",
        )
    found = _tags(header)
    if found is None:
        raise InvalidInput('If-Match must be * or entity tags such as "3"', code="if-match")
    return found


def check_match(wanted: frozenset[str], version: int) -> None:
    """Let a change through if the caller has read what it is about to change.

    Raises: PreconditionFailed, with the present `version`.
    """
    if wanted != ANY and str(version) not in {tag.partition(".")[0] for tag in wanted}:
        raise PreconditionFailed("it has changed since you read it: read it again", version=version)


def _tags(header: str) -> frozenset[str] | None:
    """The tags of a list, `*` for any; None when it is no list of tags."""
    if header.strip() == "*":
        return ANY
    found = [_TAG.fullmatch(text.strip()) for text in header.split(",", TAGS_MAX)]
    return frozenset(tag.group(1) for tag in found if tag) if all(found) else None


def respond(request: Request, status: int, answer: object, headers: Mapping[str, str]) -> Reply:
    """An action's answer with its tag; 304 without a body to somebody who has it already."""
    if answer is None:
        return Reply(204, b"", headers)
    body = codec.encode(answer)
    tag = getattr(answer, "etag", None) or getattr(answer, "version", None)
    if tag is None and request.method != "GET":
        return Reply(status, body, headers)
    tag = hashlib.blake2b(body, digest_size=9).hexdigest() if tag is None else str(tag)
    headers = {**headers, "ETag": f'"{tag}"'}
    seen = request.headers.get("If-None-Match")
    if request.method == "GET" and seen and tag in (_tags(seen) or ()):
        return Reply(304, b"", headers)
    return Reply(status, body, headers)


def replay(found: Answer) -> Reply:
    """An answer given before, to the same request."""
    headers = {"Idempotent-Replayed": "true"}
    if found.body == b"null":
        return Reply(204, b"", headers)
    return Reply(found.status, found.body, headers)
