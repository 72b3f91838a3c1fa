"""The strict reader: what RFC 8259 leaves open is refused, what it allows is read."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta, Struct

from mesh import codec
from mesh.errors import InvalidInput, TooLarge


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    sku: str
    quantity: Annotated[int, Meta(ge=1, le=10)]


class Order(Struct, frozen=True, forbid_unknown_fields=True):
    lines: list[Line]
    note: str | None = None
    password: Annotated[str, codec.SECRET] = ""


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b'{"a": 1,}',
        b"[1] 2",
        b"nul",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": 1, "a": 2}',
        b'{"b": [{"a": 1, "a": 1}]}',
        b'"\\u0000"',
        b'{"a\\u0000": 1}',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"9007199254740993",
        b"-9007199254740993",
        b"9" * 5000,
        b"[" * 33 + b"]" * 33,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b"\xef\xbb\xbf{}",
        b"'a'",
        b"01",
        b"+1",
        b".5",
        b"// no\n{}",
    ],
)
def test_read_json_refuses(raw: bytes):
    with pytest.raises(InvalidInput):
        codec.read_json(raw)


def test_read_json_refuses_a_document_over_the_bound():
    with pytest.raises(TooLarge):
        codec.read_json(b'"' + b"a" * codec.BODY_BYTES_MAX + b'"')


@pytest.mark.parametrize(
    "raw", [b"9007199254740992", b"[" * 32 + b"]" * 32, b'"\\ud83d\\ude00"', b"1.5e3", b"{}"]
)
def test_read_json_takes_what_is_just_within(raw: bytes):
    assert codec.read_json(raw) == json.loads(raw)


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-codec.INTEGER_MAX, codec.INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(_values)
def test_read_json_reads_back_what_encode_wrote(value: object):
    assert codec.read_json(codec.encode(value)) == value


@given(st.binary(max_size=200))
def test_read_json_never_raises_anything_else(raw: bytes):
    with contextlib.suppress(InvalidInput, TooLarge):
        codec.read_json(raw)


_DOCUMENT = codec.encode(
    {
        "lines": [{"sku": "a:b", "n": 1, "ok": [True, None, -3]}],
        "to": {"x": "é", "": "C/D", "u": {}},
    }
)
_SIGNS = ('"', ":", "{", "}", "[", "]", ",", "0", "9" * 17, "1.5", "e", "-", "\\", "\\u0041", "\\/")
_CUTS = st.tuples(
    st.integers(0, len(_DOCUMENT)),
    st.integers(0, 3),
    st.sampled_from([*map(str.encode, _SIGNS), b"\0", b"\x7f", b"\xff", b'"a":1,', b'"":2,', b" "]),
)


@settings(max_examples=1000)
@given(st.lists(_CUTS, max_size=3))
def test_what_is_read_quickly_is_what_is_read_strictly(cuts: list[tuple[int, int, bytes]]):
    raw = _DOCUMENT
    for at, length, sign in cuts:
        raw = raw[:at] + sign + raw[at + length :]
    assert _outcome(codec.read_json, raw) == _outcome(codec._read_strictly, raw)


def test_a_member_that_comes_twice_is_seen_among_colons_in_text():
    for raw in (b'{"a:": ":", "b": [{"c": 1, "c": 2}]}', b'{"a/": 1, "a\\/": 2}'):
        with pytest.raises(InvalidInput, match="appears twice"):
            codec.read_json(raw)


def _outcome(read, raw: bytes) -> str:
    try:
        return repr(read(raw))
    except InvalidInput as error:
        return f"refused: {error.detail}"


def test_what_is_nested_too_deep_for_us_is_damage():
    deep = b"[" * 100_000 + b"]" * 100_000
    with pytest.raises(InvalidInput):
        codec.decode(deep, list)
    assert codec.decode_lines(b"[1]\n" + deep + b"\n[2]\n", list) == [[1], [2]]


@given(_values)
def test_encode_text_is_ascii_without_control_characters(value: object):
    text = codec.encode_text(value)
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        ({"lines": [{"sku": "a", "quantity": True}]}, "/lines/0/quantity"),
        ({"lines": [{"sku": "a", "quantity": "1"}]}, "/lines/0/quantity"),
        ({"lines": [{"sku": "a", "quantity": 1}, {"sku": 1, "quantity": 1}]}, "/lines/1/sku"),
        ({"lines": [{"sku": "a", "quantity": 11}]}, "/lines/0/quantity"),
        ({"lines": []} | {"extra": 1}, ""),
        ({}, ""),
        ([], ""),
    ],
)
def test_convert_names_the_place(value: object, pointer: str):
    with pytest.raises(InvalidInput) as caught:
        codec.convert(value, Order)
    assert caught.value.pointer == pointer


def test_convert_reads_text_as_numbers_only_when_loose():
    assert codec.convert({"sku": "a", "quantity": "3"}, Line, loose=True) == Line("a", 3)
    with pytest.raises(InvalidInput):
        codec.convert({"sku": "a", "quantity": "3"}, Line)


def test_secret_fields_are_those_marked():
    assert codec.secret_fields(Order) == {"password"}
    assert codec.secret_fields(Line) == frozenset()
