"""Rows as what was asked for: a struct filled by column name, or the first column.

A row that does not fit its shape is a schema this program does not know, never bad input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar, get_args, get_type_hints

from mesh import codec
from mesh.databases.contract import Value
from mesh.errors import InvalidInput, SchemaMismatch

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

Row: TypeAlias = tuple[Value, ...]


def is_struct(shape: type) -> bool:
    """Whether rows fill it by column name."""
    return hasattr(shape, "__struct_fields__")


def _unfit(shape: type, error: InvalidInput) -> SchemaMismatch:
    return SchemaMismatch(f"a row does not fit {shape.__name__}: {error} {error.pointer}".rstrip())


def _booleans(shape: type) -> frozenset[str]:
    """The members that are true or false: SQLite has only 1 and 0 for them."""
    hints = get_type_hints(shape)
    attributes: tuple[str, ...] = shape.__struct_fields__  # type: ignore[attr-defined]  # a struct's
    return frozenset(
        member
        for member, attribute in zip(codec.fields(shape), attributes, strict=True)
        if hints[attribute] is bool or bool in get_args(hints[attribute])
    )


def _struct_filler(shape: type[T], columns: tuple[str, ...]) -> Callable[[Row], T]:
    truths = tuple(_booleans(shape).intersection(columns))

    def fill(row: Row) -> T:
        members: dict[str, Value] = dict(zip(columns, row, strict=True))
        for name in truths:
            if members[name] in {0, 1}:
                members[name] = bool(members[name])
        try:
            return codec.convert(members, shape)
        except InvalidInput as error:
            raise _unfit(shape, error) from None

    return fill


def _column_filler(shape: type[T]) -> Callable[[Row], T]:
    def fill(row: Row) -> T:
        value = row[0]
        if type(value) is shape:
            return value
        if shape is bool and value in {0, 1}:
            value = bool(value)
        try:
            return codec.convert(value, shape)
        except InvalidInput as error:
            raise _unfit(shape, error) from None

    return fill


def filler(shape: type[T], columns: tuple[str, ...]) -> Callable[[Row], T]:
    """A function that makes `shape` of a row with these columns.

    It raises SchemaMismatch when the row does not fit.
    """
    return _struct_filler(shape, columns) if is_struct(shape) else _column_filler(shape)
