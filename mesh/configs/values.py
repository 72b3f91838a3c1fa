"""Readers of single values: an `Item` in, a value out, or a complaint and None.

Each says in JSON Schema what it takes, so that an editor knows the file as well as we do.
"""

from __future__ import annotations

import shlex
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from mesh.configs import durations
from mesh.configs.complaints import Complaints, Place, suggestion

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mesh.configs.document import Node

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Schema = dict[str, object]

PORT_MAX = 65_535
DURATION_MAX_S = 24 * 3600.0
"""A day: a longer wait in a development tool is a slip of the unit."""


@dataclass(frozen=True, slots=True)
class Item:
    """A node with the path that leads to it, as complaints name it."""

    node: Node
    path: str
    complaints: Complaints

    def complain(self, text: str) -> None:
        """Note what is wrong here, unless the node was complained of already."""
        if not self.node.bad:
            named = f"{self.path}: " if self.path else "the file "
            self.complaints.add(self.node.at, f"{named}{text}")

    def child(self, name: str, node: Node) -> Item:
        """The member `name`."""
        return Item(node, f"{self.path}.{name}" if self.path else name, self.complaints)

    def elements(self) -> Iterator[Item]:
        """The items of a list, numbered from 0; nothing, with a complaint, if it is none."""
        if not isinstance(self.node.value, list):
            self.complain(f"must be a list, not {self.kind}")
            return
        for index, node in enumerate(self.node.value):
            yield Item(node, f"{self.path}[{index}]", self.complaints)

    def members(self) -> Iterator[tuple[str, Place, Item]]:
        """Key, the key's place and item of a mapping; nothing, with a complaint, if it is none."""
        if not isinstance(self.node.value, dict):
            self.complain(f"must be a mapping, not {self.kind}")
            return
        for key, node in self.node.value.items():
            yield key, self.node.keys[key], self.child(key, node)

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.node.value, list)

    @property
    def kind(self) -> str:
        """What the value is, for a person."""
        value = self.node.value
        if value is None:
            return "nothing"
        if isinstance(value, dict | list):
            return "a mapping" if isinstance(value, dict) else "a list"
        return f"`{self.node.text[:40]}`"


@dataclass(frozen=True, slots=True)
class Reader(Generic[T_co]):
    """Reads one value; `schema` is what it takes, in JSON Schema."""

    read: Callable[[Item], T_co | None]
    schema: Schema

    def __call__(self, item: Item) -> T_co | None:
        """The value; None once it has been complained of."""
        return self.read(item)

    def about(self, sentence: str) -> Reader[T_co]:
        """The same with what an editor shows beside the key."""
        return Reader(self.read, {**self.schema, "description": sentence})


Readers = dict[str, Reader[object]]


def takes(schema: Schema) -> Callable[[Callable[[Item], T | None]], Reader[T]]:
    """Make a function a reader."""
    return lambda read: Reader(read, schema)


def filled_in(schema: Schema) -> Schema:
    """Also text with a `$`, whose value only the environment knows."""
    return {"anyOf": [schema, {"type": "string", "pattern": "\\$"}]}


def mapping(readers: Readers, **more: object) -> Schema:
    """The schema of a mapping with these keys."""
    return {
        "type": "object",
        "properties": {name: reader.schema for name, reader in readers.items()},
        "patternProperties": {"^x-": {}},
        "additionalProperties": False,
        **more,
    }


def known(item: Item, readers: Readers, aliases: Mapping[str, str]) -> dict[str, object]:
    """The members that have a reader, read; those of which nothing came are left out.

    Unknown keys are complained of, with a suggestion; `x-…` is anybody's.

    Args:
        aliases: the result's name for a key, where it is another.
    """
    values: dict[str, object] = {}
    for key, at, member in item.members():
        if key.startswith("x-"):
            continue
        reader = readers.get(key)
        if reader is None:
            near = suggestion(key, readers) or f"; known are {', '.join(sorted(readers))}"
            item.complaints.add(at, f"{member.path}: unknown key{near}")
            continue
        value = reader(member)
        if value is not None:
            values[aliases.get(key, key)] = value
    return values


TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "array", "items": TEXT}
WORDS: Schema = {"type": "array", "items": {"type": ["string", "number", "boolean"]}}


@takes(TEXT)
def text(item: Item) -> str | None:
    """Text that is not empty."""
    if isinstance(item.node.value, str) and item.node.value:
        return item.node.value
    quote = ""
    if isinstance(item.node.value, bool | int | float):
        quote = "; put it in quotes"
    item.complain(f"must be text, not {item.kind}{quote}")
    return None


@takes(filled_in({"type": "boolean"}))
def flag(item: Item) -> bool | None:
    """`true` or `false`."""
    if isinstance(item.node.value, bool):
        return item.node.value
    item.complain(f"must be true or false, not {item.kind}")
    return None


def whole(low: int, high: int) -> Reader[int]:
    """A whole number between two bounds, both included."""

    @takes(filled_in({"type": "integer", "minimum": low, "maximum": high}))
    def read(item: Item) -> int | None:
        value = item.node.value
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        item.complain(f"must be a whole number from {low} to {high}, not {item.kind}")
        return None

    return read


port = whole(0, PORT_MAX)


def one_of(*words: str) -> Reader[str]:
    """One of a few words."""

    @takes(filled_in({"enum": list(words)}))
    def read(item: Item) -> str | None:
        value = item.node.value
        if isinstance(value, str) and value in words:
            return value
        near = suggestion(value, words) if isinstance(value, str) else ""
        item.complain(f"must be {' or '.join(words)}, not {item.kind}{near}")
        return None

    return read


def matching(pattern: re.Pattern[str], what: str) -> Reader[str]:
    """Text of a form; `what` says which."""

    @takes(filled_in({"type": "string", "pattern": f"^(?:{pattern.pattern})$"}))
    def read(item: Item) -> str | None:
        value = item.node.value
        if isinstance(value, str) and pattern.fullmatch(value):
            return value
        item.complain(f"must be {what}, not {item.kind}")
        return None

    return read


@takes(filled_in({"type": "string", "pattern": f"^{durations.FORM.pattern}$"}))
def seconds(item: Item) -> float | None:
    """A duration such as `10s`, `1m30s` or `500ms`, in seconds."""
    value = item.node.value
    total = durations.parse_s(value) if isinstance(value, str) else None
    if total is not None:
        if total <= DURATION_MAX_S:
            return total
        item.complain("is longer than a day")
        return None
    unit = f"; for seconds write `{value}s`" if type(value) in {int, float} else ""
    item.complain(f"must be a duration such as 10s, 1m30s or 500ms, not {item.kind}{unit}")
    return None


@takes(TEXTS)
def texts(item: Item) -> tuple[str, ...] | None:
    """A list of texts."""
    found = [text(element) for element in item.elements()]
    if not item.is_list or None in found:
        return None
    return tuple(cast("list[str]", found))


@takes({"anyOf": [TEXT, TEXTS]})
def text_or_texts(item: Item) -> tuple[str, ...] | None:
    """One text, or a list of them."""
    if item.is_list:
        return texts(item)
    only = text(item)
    return None if only is None else (only,)


@takes({"anyOf": [TEXT, {**WORDS, "minItems": 1}]})
def argv(item: Item) -> tuple[str, ...] | None:
    """A command as a list of arguments, or as one line split as a shell would; not empty."""
    if item.is_list:
        words: Sequence[str] | None = arguments(item)
    else:
        line = text(item)
        if line is None:
            return None
        try:
            words = shlex.split(line)
        except ValueError as error:
            item.complain(f"cannot be split into words: {error}")
            return None
    if words is not None and not words:
        item.complain("must name a program")
    return tuple(words) if words else None


def arguments(item: Item) -> tuple[str, ...] | None:
    """A list of scalars as they are written: `[node, server.js, --port, 80]`."""
    found: list[str] = []
    for element in item.elements():
        if isinstance(element.node.value, dict | list) or element.node.value is None:
            element.complain(f"must be text, not {element.kind}")
            return None
        found.append(element.node.text)
    return tuple(found) if item.is_list else None


@takes(filled_in({"type": "string", "pattern": "^[A-Za-z0-9+-]+$", "examples": ["SIGTERM"]}))
def signal_name(item: Item) -> str | None:
    """A signal's name, with or without SIG; `SIGTERM` is the form that comes out."""
    value = item.node.value
    if isinstance(value, str):
        name = value.upper() if value.upper().startswith("SIG") else f"SIG{value.upper()}"
        if name in signal.Signals.__members__:
            return name
    item.complain(f"must be a signal such as SIGTERM or SIGINT, not {item.kind}")
    return None
