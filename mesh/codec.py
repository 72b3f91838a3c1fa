"""The one place that decodes and encodes: strict JSON in, compact JSON out, JSON Schema.

Two readers: `read_json` is for what strangers send and refuses everything RFC 8259 leaves open
(duplicate keys, NaN, NUL, lone surrogates, integers a peer could not hold); `decode` is for
bytes that we wrote ourselves. Structs are defined where they belong; only their conversion
happens here, so `msgspec` can be replaced in one file.
"""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import msgspec

from mesh.errors import InvalidInput, TooLarge

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

T = TypeVar("T")

BODY_BYTES_MAX = 1024 * 1024
"""Largest JSON document accepted from outside."""

DEPTH_MAX = 32
"""Deepest nesting accepted: far beyond any message here, far below the interpreter's stack."""

INTEGER_MAX = 2**53
"""Integers beyond ±2^53 lose digits in JavaScript and other double-based readers."""

_SURROGATE = re.compile("[\ud800-\udfff]")
_INTEGER_DIGITS_MAX = 20


_encoder = msgspec.json.Encoder()

encode = _encoder.encode
"""Compact UTF-8 JSON of a struct or plain value, as bytes."""


def encode_text(value: object) -> str:
    """The same as text, ASCII only: what is printed cannot carry a control or bidi character."""
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=True, separators=(",", ":"))


def decode(raw: bytes | str, shape: type[T]) -> T:
    """Bytes that we wrote ourselves, as `shape`.

    Raises: InvalidInput, which here means damage or an older writer.
    """
    try:
        return msgspec.json.decode(raw, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(str(error)) from None


def encode_lines(rows: Sequence[object]) -> bytes:
    """Compact UTF-8 JSON, one value a line. Raises: ValueError (a text that is no Unicode)."""
    return _encoder.encode_lines(rows)


def decode_lines(raw: bytes, shape: type[T]) -> list[T]:
    """Lines that we wrote ourselves; one that is damaged is left out."""
    decoder = msgspec.json.Decoder(shape)
    try:
        return decoder.decode_lines(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = []
        for line in raw.splitlines():
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                found.append(decoder.decode(line))
        return found


def plain(value: object) -> Any:
    """A struct as dicts, lists, strings and numbers."""
    return msgspec.to_builtins(value)


def _refuse_constant(name: str) -> None:
    msg = f"{name} is not JSON"
    raise InvalidInput(msg)


def _read_integer(digits: str) -> int:
    if len(digits) > _INTEGER_DIGITS_MAX or abs(int(digits)) > INTEGER_MAX:
        msg = "an integer is outside ±2^53"
        raise InvalidInput(msg)
    return int(digits)


def _read_float(digits: str) -> float:
    """A number is what it is worth: 3.0 is the integer 3, as in JSON Schema."""
    number = float(digits)
    if number in {float("inf"), float("-inf")}:
        msg = "a number is too large"
        raise InvalidInput(msg)
    return int(number) if number.is_integer() and abs(number) < INTEGER_MAX else number


def _read_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        msg = f"the member {twice!r} appears twice"
        raise InvalidInput(msg)
    return members


_READER = json.JSONDecoder(
    object_pairs_hook=_read_object,
    parse_constant=_refuse_constant,
    parse_int=_read_integer,
    parse_float=_read_float,
)


def _check_value(value: Any, depth: int) -> None:
    """Refuse text that UTF-8 or SQLite cannot hold, and nesting beyond DEPTH_MAX."""
    if isinstance(value, str):
        if "\0" in value:
            msg = "text holds a NUL character"
            raise InvalidInput(msg)
        if _SURROGATE.search(value):
            msg = "text holds a lone surrogate"
            raise InvalidInput(msg)
    elif isinstance(value, dict | list):
        if depth == DEPTH_MAX:
            msg = f"nested deeper than {DEPTH_MAX}"
            raise InvalidInput(msg)
        children: Iterable[Any] = value
        if isinstance(value, dict):
            for key in value:
                _check_value(key, depth)
            children = value.values()
        for child in children:
            _check_value(child, depth + 1)


_Integer = Annotated[int, msgspec.Meta(ge=-INTEGER_MAX, le=INTEGER_MAX)]


def _nested(depth: int) -> Any:
    """The type of plain values without fractions that are nested no deeper than that."""
    inner = _nested(depth - 1) if depth else str
    return None | bool | _Integer | str | list[inner] | dict[str, inner]  # type: ignore[valid-type]


_ORDINARY = msgspec.json.Decoder(_nested(4))


def read_json(raw: bytes) -> Any:
    """JSON from outside as plain values, read strictly.

    Raises:
        TooLarge: over BODY_BYTES_MAX.
        InvalidInput: not UTF-8, not JSON, or one of the things named in this module's head.
    """
    if len(raw) > BODY_BYTES_MAX:
        msg = f"the document is over {BODY_BYTES_MAX} bytes"
        raise TooLarge(msg)
    if b"\\u" in raw:  # text may hold what only a look at it shows
        return _read_strictly(raw)
    try:
        value = _ORDINARY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _read_strictly(raw)
    once = raw.count(b":") == encode(value).count(b":")  # no member was dropped
    return value if once else _read_strictly(raw)


def _read_strictly(raw: bytes) -> Any:
    """The same with a look at everything: for what is unusual, and to say what is wrong."""
    try:
        value = _READER.decode(raw.decode("utf-8"))
    except UnicodeDecodeError:
        msg = "the document is not UTF-8"
        raise InvalidInput(msg) from None
    except json.JSONDecodeError as error:
        msg = f"not JSON: {error.msg} at line {error.lineno} column {error.colno}"
        raise InvalidInput(msg) from None
    except RecursionError:
        msg = f"nested deeper than {DEPTH_MAX}"
        raise InvalidInput(msg) from None
    nested = raw.count(b"{") + raw.count(b"[")
    if nested > DEPTH_MAX or b"\\u" in raw:  # else no text and no depth can be wrong
        _check_value(value, 0)
    return value


_PLACE = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_STEP = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


def _pointer(path: str) -> str:
    steps = (name or index for name, index in _STEP.findall(path))
    return "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)


def convert(value: object, shape: type[T], *, loose: bool = False) -> T:
    """Plain values as `shape`, checked against its types and limits.

    Args:
        loose: take "2" for 2 and "true" for true, as path and query fields need.

    Raises: InvalidInput, with the JSON pointer of the first offence.
    """
    try:
        return msgspec.convert(value, shape, strict=not loose)
    except msgspec.ValidationError as error:
        text = str(error)
        place = _PLACE.search(text)
        detail = text[: place.start()] if place else text
        raise InvalidInput(detail, pointer=_pointer(place.group(1)) if place else "") from None


def schemas(
    shapes: Sequence[type], *, ref_template: str = "#/components/schemas/{name}"
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """JSON Schema 2020-12 of each shape, and the shared components they refer to."""
    found, components = msgspec.json.schema_components(shapes, ref_template=ref_template)
    return list(found), dict(components)


def schema(shape: type) -> dict[str, Any]:
    """One self-contained JSON Schema 2020-12 document."""
    return msgspec.json.schema(shape)


SECRET = msgspec.Meta(extra_json_schema={"format": "password", "writeOnly": True})
"""Marks a text member that is never stored, logged or replayed: `Annotated[str, SECRET]`."""


PERSONAL = msgspec.Meta(extra_json_schema={"x-personal": True})
"""Marks a member that tells of a person: `Annotated[str, PERSONAL]`. No event may carry one."""


def personal_fields(shape: type) -> list[str]:
    """The members marked PERSONAL or SECRET, of this struct or of any that it holds."""
    parts = schemas([shape])[1]
    return sorted(
        f"{name}.{member}"
        for name, part in parts.items()
        for member, said in part.get("properties", {}).items()
        if _marked(said)
    )


def _marked(said: object) -> bool:
    """Whether a schema, or an alternative or item in it, carries a mark."""
    if isinstance(said, list):
        return any(map(_marked, said))
    if not isinstance(said, dict):
        return False
    return bool(said.get("x-personal") or said.get("writeOnly")) or any(
        map(_marked, (said.get("anyOf"), said.get("items"), said.get("prefixItems")))
    )


_secret_fields: dict[type, frozenset[str]] = {}


def secret_fields(shape: type) -> frozenset[str]:
    """The members of a struct that are marked SECRET, by their name on the wire."""
    found = _secret_fields.get(shape)
    if found is None:
        properties = schemas([shape])[1].get(shape.__name__, {}).get("properties", {})
        found = frozenset(name for name, part in properties.items() if part.get("writeOnly"))
        _secret_fields[shape] = found
    return found


_fields: dict[type, tuple[str, ...]] = {}


def fields(shape: type) -> tuple[str, ...]:
    """The members a struct has on the wire, in order."""
    found = _fields.get(shape)
    if found is None:
        found = tuple(field.encode_name for field in msgspec.structs.fields(shape))
        _fields[shape] = found
    return found


def replace(value: T, **changes: object) -> T:
    """A copy of a frozen struct with some members changed."""
    return msgspec.structs.replace(value, **changes)  # type: ignore[type-var]


def members(value: object) -> Mapping[str, object]:
    """A struct's members by attribute name, values as they are."""
    return msgspec.structs.asdict(value)  # type: ignore[arg-type]
