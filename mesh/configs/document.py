"""YAML text as a tree of nodes that know their line and column.

Composed here from the parser's events, not by its constructor: YAML 1.2 core types only
(`no`, `on` and `12:30:00` are text, `010` is ten), keys unique, `${VARIABLES}` filled in, and
depth and size bounded, since libyaml's own composer overruns the C stack on deep nesting.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

from mesh.configs.complaints import Place

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mesh.configs.complaints import Complaints

FILE_BYTES_MAX = 1024 * 1024
"""Far beyond any configuration written by hand; read at once."""

DEPTH_MAX = 32
"""Deepest nesting, that of a JSON document elsewhere here."""

NODES_MAX = 50_000
"""Nodes after aliases are followed: a few nested aliases otherwise make billions."""

Scalar = str | int | float | bool | None

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml where PyYAML was built with it: ten times the speed, same events."""

_START = Place(1, 1)


@dataclass(slots=True)
class Node:
    """One value and where it stands.

    `text` is a scalar as written, variables filled in; `bad` says that it was complained of.
    """

    at: Place
    value: Scalar | list[Node] | dict[str, Node] = None
    text: str = ""
    keys: dict[str, Place] = field(default_factory=dict)
    size: int = 1
    bad: bool = False

    def plain(self) -> object:
        """The value as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: child.plain() for key, child in self.value.items()}
        if isinstance(self.value, list):
            return [child.plain() for child in self.value]
        return self.value


_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_WORDS: dict[str, Scalar] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DIGITS_MAX = 18
"""Longer digits stay text: no setting here is a number of that size."""


def core_value(text: str) -> Scalar:
    """A plain scalar's value by the YAML 1.2 core schema, less infinities and NaN."""
    if text in _WORDS:
        return _WORDS[text]
    if len(text) <= _DIGITS_MAX:
        if _INTEGER.fullmatch(text):
            base = 0 if text[:2] in {"0o", "0x"} else 10
            return int(text, base)
        if _FLOAT.fullmatch(text):
            return float(text)
    return text


_VARIABLE = re.compile(r"\$(?:(\$)|\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-)([^}]*))?\}|)")


def interpolate(text: str, env: Mapping[str, str]) -> tuple[str, list[str]]:
    """Fill in `${NAME}`, `${NAME:-default}` (unset or empty) and `$$`; also what is wrong."""
    wrong: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        dollar, name, has_default, default = match.groups()
        if dollar:
            return "$"
        if name is None:
            wrong.append("a `$` stands alone: write ${NAME}, ${NAME:-default}, or $$ for a dollar")
            return ""
        found = env.get(name)
        if has_default and not found:
            return str(default)
        if found is None:
            wrong.append(f"the variable {name} is not set; ${{{name}:-default}} would give it one")
            return ""
        return found

    return _VARIABLE.sub(replacement, text), wrong


@dataclass(slots=True)
class _Frame:
    """A collection that is still open."""

    node: Node
    anchor: str | None
    key: tuple[str, Place] | None = None


class _Composer:
    """Puts the parser's events together, with a stack of its own."""

    def __init__(self, env: Mapping[str, str], complaints: Complaints) -> None:
        self._env = env
        self._complaints = complaints
        self._open: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self.root: Node | None = None
        self.stopped = False

    def take(self, event: yaml.Event) -> None:
        """One event; after `stopped` there is no use in more."""
        mark = event.start_mark
        at = Place(mark.line + 1, mark.column + 1) if mark else _START
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event, at)
        elif isinstance(event, yaml.AliasEvent):
            self._alias(str(event.anchor), at)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._check_tag(event.tag, at)
            is_map = isinstance(event, yaml.MappingStartEvent)
            self._open.append(_Frame(Node(at, {} if is_map else []), event.anchor))
            if len(self._open) > DEPTH_MAX:
                self._stop(at, f"nested deeper than {DEPTH_MAX}")
        elif isinstance(event, yaml.CollectionEndEvent):
            frame = self._open.pop()
            self._attach(frame.node, frame.anchor)
        elif isinstance(event, yaml.DocumentStartEvent) and self.root is not None:
            self._stop(at, "a second document begins here; one file holds one configuration")

    def _stop(self, at: Place, why: str) -> None:
        self._complaints.add(at, why)
        self.stopped = True

    def _check_tag(self, tag: str | None, at: Place) -> None:
        if tag is not None and tag != "!":
            self._complaints.add(at, "a tag like this one is not understood here; leave it out")

    def _scalar(self, event: yaml.ScalarEvent, at: Place) -> None:
        self._check_tag(event.tag, at)
        frame = self._open[-1] if self._open else None
        if frame and isinstance(frame.node.value, dict) and frame.key is None:
            if event.value in frame.node.value:
                first = frame.node.keys[event.value].line
                self._complaints.add(at, f"the key `{event.value}` is already on line {first}")
            frame.key = (event.value, at)
            return
        text, wrong = interpolate(event.value, self._env)
        for complaint in wrong:
            self._complaints.add(at, complaint)
        value = core_value(text) if event.implicit[0] else text
        self._attach(Node(at, value, text, bad=bool(wrong)), event.anchor)

    def _alias(self, anchor: str, at: Place) -> None:
        target = self._anchors.get(anchor)
        if target is None:
            self._stop(at, f"the alias *{anchor} stands for nothing that is complete above it")
            return
        self._attach(target, None)

    def _attach(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        parent = frame.node
        parent.size += node.size
        if parent.size > NODES_MAX:
            self._stop(node.at, f"more than {NODES_MAX} values, aliases followed")
        elif isinstance(parent.value, list):
            parent.value.append(node)
        elif isinstance(parent.value, dict):
            if frame.key is None:
                self._stop(node.at, "a key must be plain text")
                return
            key, at = frame.key
            parent.value.setdefault(key, node)
            parent.keys.setdefault(key, at)
            frame.key = None


def _read(file: Path, complaints: Complaints) -> bytes:
    try:
        with file.open("rb") as stream:
            raw = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        complaints.add(_START, f"cannot be read: {error.strerror}")
        return b""
    if len(raw) > FILE_BYTES_MAX:
        complaints.add(_START, f"larger than {FILE_BYTES_MAX} bytes")
        return b""
    return raw


def _place_of(raw: bytes, offset: int) -> Place:
    before = raw[:offset]
    return Place(before.count(b"\n") + 1, offset - before.rfind(b"\n"))


def _explain(error: yaml.YAMLError, raw: bytes) -> tuple[Place, str]:
    """Where the parser stopped, and why."""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        at = Place(mark.line + 1, mark.column + 1) if mark else _START
        line = b"".join(raw.split(b"\n")[at.line - 1 : at.line])  # empty beyond the last
        tab = "indent with spaces, not tabs" if line[at.column - 1 : at.column] == b"\t" else None
        return at, ", ".join(part for part in (tab, error.context, error.problem) if part)
    if isinstance(error, yaml.reader.ReaderError):
        return _place_of(raw, error.position), "a control character"
    return _START, str(error).split("\n", 1)[0]


def compose(file: Path, env: Mapping[str, str], complaints: Complaints) -> Node | None:
    """The file's one document; None, with complaints added, when it cannot be made out."""
    raw = _read(file, complaints)
    composer = _Composer(env, complaints)
    try:
        for event in yaml.parse(raw.decode("utf-8-sig"), Loader=_LOADER):
            composer.take(event)
            if composer.stopped:
                return None
    except UnicodeDecodeError as error:
        complaints.add(_place_of(raw, error.start), "not UTF-8 from here on")
        return None
    except yaml.YAMLError as error:
        at, why = _explain(error, raw)
        complaints.add(at, f"not YAML: {why}")
        return None
    return composer.root
