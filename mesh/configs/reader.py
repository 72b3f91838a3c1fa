"""The tables of keys: a document's nodes as the structs of `mesh.config`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast

from mesh import codec
from mesh.config import (
    Condition,
    Config,
    Dependency,
    Healthcheck,
    RestartPolicy,
    Sandbox,
    Service,
    WatchRule,
)
from mesh.configs import values
from mesh.configs.check import check
from mesh.configs.complaints import Complaints, Place
from mesh.configs.document import compose
from mesh.configs.locate import NAME, RESERVED, Location
from mesh.configs.values import Item

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Readers = dict[str, "Callable[[Item], object]"]

UNASKED = ("NONE",)
"""A health check's test that is none: ready as soon as it runs. Also `disable: true`."""

SERVICES_MAX = 200
"""Each is a process: more than one machine's worth is a slip."""

_NAME_FORM = "a name of lower-case letters, digits and hyphens, at most 31, a letter first"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ON_FAILURE = re.compile(r"on-failure:([1-9][0-9]{0,3})")
_URL = re.compile(r"[a-z][a-z0-9+]*://\S*")

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
_TEST_WORDS = ("tcp", "notify", "NONE")
_TEST_FORMS = {("http", 2), ("CMD-SHELL", 2), ("log", 2), *((word, 1) for word in _TEST_WORDS)}
_LIMIT_FREE = ("no", "always", "on-failure", "unless-stopped")


def _restart(item: Item) -> RestartPolicy | None:
    value = item.node.value
    if isinstance(value, str):
        if value in _LIMIT_FREE:
            when = cast("Literal['no', 'always', 'on-failure', 'unless-stopped']", value)
            return RestartPolicy(when)
        limited = _ON_FAILURE.fullmatch(value)
        if limited:
            return RestartPolicy("on-failure", int(limited.group(1)))
    item.complain(
        f"must be no, always, on-failure, on-failure:N or unless-stopped, not {item.kind}"
    )
    return None


def _test_list(item: Item) -> tuple[str, ...] | None:
    words = values.arguments(item)
    if words is None:
        return None
    form = (words[0], len(words)) if words else ("", 0)
    fits = form in _TEST_FORMS or (form[0] == "CMD" and form[1] > 1)
    if fits and form[0] == "log":
        return _log_test(item, words[1])
    if fits and (form[0] != "http" or words[1].startswith("/")):
        return words
    item.complain(
        "must be [http, /path], [tcp], [CMD, program, …], [CMD-SHELL, line], [log, expression]"
        " or [notify]"
    )
    return None


def _log_test(item: Item, expression: str) -> tuple[str, ...] | None:
    try:
        re.compile(expression)
    except re.error as error:
        item.complain(f"`{expression}` is no regular expression: {error}")
        return None
    return ("log", expression)


def _test_line(item: Item) -> tuple[str, ...] | None:
    line = values.text(item)
    if line is None or line in _TEST_WORDS:
        return None if line is None else (line,)
    kind, _, rest = line.partition(" ")
    rest = rest.strip()
    if kind == "log" and rest:
        return _log_test(item, rest)
    if kind != "http":
        return ("CMD-SHELL", line)
    if rest.startswith("/") and " " not in rest:
        return ("http", rest)
    item.complain("must name a path, for example `http /readyz`")
    return None


def _test(item: Item) -> tuple[str, ...] | None:
    """`http /path`, `tcp`, `log EXPRESSION`, `notify`, a line for the shell; or these as a list."""
    return _test_list(item) if item.is_list else _test_line(item)


_HEALTHCHECK: Readers = {
    "test": _test,
    "interval": values.seconds,
    "timeout": values.seconds,
    "retries": values.whole(1, 100),
    "start_period": values.seconds,
    "start_interval": values.seconds,
    "disable": values.flag,
}
_HEALTHCHECK_NAMES = {
    key: f"{key}_s" for key in ("interval", "timeout", "start_period", "start_interval")
}


def _healthcheck(item: Item) -> Healthcheck | None:
    found = values.known(item, _HEALTHCHECK, _HEALTHCHECK_NAMES)
    if found.pop("disable", False):
        return Healthcheck(UNASKED)
    return codec.replace(Healthcheck(), **found)


def _depends_on(item: Item) -> dict[str, Dependency] | None:
    """`[a, b]`, or `{a: {condition: …, required: …}}`."""
    if item.is_list:
        return dict.fromkeys(values.texts(item) or (), Dependency())
    readers: Readers = {"condition": values.one_of(*CONDITIONS), "required": values.flag}
    found: dict[str, Dependency] = {}
    for name, _, member in item.members():
        said = values.known(member, readers, {})
        found[name] = Dependency(
            condition=cast("Condition", said.get("condition", "service_started")),
            required=said.get("required") is not False,
        )
    return found


def _environment(env: Mapping[str, str]) -> Callable[[Item], dict[str, str] | None]:
    """`{NAME: value}` or `[NAME=value]`; a name without a value takes it from `env`, if set."""

    def assign(found: dict[str, str], item: Item, name: str, value: str | None) -> None:
        if not _VARIABLE.fullmatch(name):
            item.complain(f"`{name}` cannot be a variable's name")
        elif value is not None:
            found[name] = value
        elif name in env:
            found[name] = env[name]

    def read(item: Item) -> dict[str, str] | None:
        found: dict[str, str] = {}
        if item.is_list:
            for element in item.elements():
                line = values.text(element) or "_"
                name, equals, value = line.partition("=")
                assign(found, element, name, value if equals else None)
            return found
        for name, _, member in item.members():
            if isinstance(member.node.value, dict | list | bool):
                quote = "; put it in quotes" if isinstance(member.node.value, bool) else ""
                member.complain(f"must be text or a number, not {member.kind}{quote}")
            else:
                empty = member.node.value is None
                assign(found, member, name, None if empty else member.node.text)
        return found

    return read


def _watch_rule(item: Item) -> WatchRule | None:
    found = values.known(item, {"path": values.text, "action": values.one_of("restart")}, {})
    if isinstance(item.node.value, dict) and "path" not in item.node.value:
        item.complain("needs a `path`")
    path = found.get("path")
    return WatchRule(path) if isinstance(path, str) else None


def _develop(item: Item) -> tuple[WatchRule, ...] | None:
    def watch(rules: Item) -> tuple[WatchRule, ...]:
        return tuple(rule for rule in map(_watch_rule, rules.elements()) if rule)

    found = values.known(item, {"watch": watch}, {})
    return cast("tuple[WatchRule, ...] | None", found.get("watch"))


def _seed(item: Item) -> dict[str, object] | None:
    return {name: member.node.plain() for name, _, member in item.members()}


_MODES = ("auto", "required", "off")
_SANDBOX: Readers = {
    "mode": values.one_of(*_MODES),
    "network": values.one_of("open", "peers"),
    "read": values.text_or_texts,
    "write": values.text_or_texts,
}


def _sandbox(item: Item) -> Sandbox | None:
    """One of the modes, or `{mode: …, network: …, read: […], write: […]}`."""
    if isinstance(item.node.value, dict):
        return codec.replace(Sandbox(), **values.known(item, _SANDBOX, {}))
    mode = values.one_of(*_MODES)(item)
    return None if mode is None else codec.replace(Sandbox(), mode=mode)


def _service_readers(env: Mapping[str, str]) -> Readers:
    return {
        "module": values.matching(_MODULE, "a module such as myshop.greeter"),
        "command": values.argv,
        "port": values.port,
        "socket": values.one_of("inherit", "own"),
        "database": values.matching(_URL, "a URL such as sqlite://"),
        "seed": _seed,
        "calls": values.texts,
        "depends_on": _depends_on,
        "environment": _environment(env),
        "env_file": values.text_or_texts,
        "working_dir": values.text,
        "restart": _restart,
        "stop_signal": values.signal_name,
        "stop_grace_period": values.seconds,
        "healthcheck": _healthcheck,
        "sandbox": _sandbox,
        "develop": _develop,
    }


_SERVICE_NAMES = {"stop_grace_period": "stop_grace_period_s", "develop": "watch"}


def _services(env: Mapping[str, str]) -> Callable[[Item], dict[str, Service]]:
    readers = _service_readers(env)

    def read(item: Item) -> dict[str, Service]:
        services: dict[str, Service] = {}
        if len(item.node.keys) > SERVICES_MAX:
            item.complain(f"more than {SERVICES_MAX} services")
            return services
        for name, at, member in item.members():
            if not NAME.fullmatch(name):
                item.complaints.add(at, f"{member.path}: must be {_NAME_FORM}")
            elif name in RESERVED:
                item.complaints.add(at, f"{member.path}: the name is taken by mesh itself")
            found = values.known(member, readers, _SERVICE_NAMES)
            body = member.node.value
            if isinstance(body, dict) and ("module" in body) == ("command" in body):
                both = "not both" if "module" in body else "it has neither"
                item.complaints.add(at, f"{member.path}: needs a `module` or a `command`, {both}")
            if "command" in found:
                found.setdefault("socket", "own")
            services[name] = codec.replace(Service(name=name), **found)
        return services

    return read


def _default_name(root: Path) -> str:
    """The folder's name made to fit, as Compose does."""
    slug = re.sub(r"[^a-z0-9]+", "-", root.name.lower()).strip("-")[:31]
    return slug if NAME.fullmatch(slug) and slug not in RESERVED else "project"


def _label(file: Path, cwd: Path) -> str:
    return str(file.relative_to(cwd)) if file.is_relative_to(cwd) else str(file)


def read(location: Location, *, env: Mapping[str, str], cwd: Path) -> Config:
    """The file as a checked `Config`.

    Raises: ConfigInvalid, with every complaint in the order of the file.
    """
    complaints = Complaints(_label(location.file, cwd))
    root = compose(location.file, env, complaints)
    if root is None:
        complaints.settle()
        complaints.add(Place(1, 1), "the file is empty; it needs at least `services:`")
        complaints.settle()
        raise AssertionError
    readers: Readers = {
        "name": values.matching(NAME, _NAME_FORM),
        "bus": values.matching(_URL, "a URL such as zmq://"),
        "services": _services(env),
    }
    document = Item(root, "", complaints)
    found = values.known(document, readers, {})
    if isinstance(root.value, dict) and "services" not in root.value:
        complaints.add(Place(1, 1), "there are no `services:`")
    config = codec.replace(
        Config(
            name=_default_name(location.root),
            bus="",
            services={},
            file=str(location.file),
            root=str(location.root),
        ),
        **found,
    )
    check(config, document)
    complaints.settle()
    return config
