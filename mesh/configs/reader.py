"""The tables of keys: a document's nodes as the structs of `mesh.config`."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal, cast

from mesh import codec
from mesh.config import (
    Condition,
    Config,
    Dependency,
    Exercise,
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
from mesh.configs.values import Item, Reader, Readers, Schema, mapping, takes

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

UNASKED = ("NONE",)
"""A health check's test that is none: ready as soon as it runs. Also `disable: true`."""

SERVICES_MAX = 200
"""Each is a process: more than one machine's worth is a slip."""

_NAME_FORM = "a name of lower-case letters, digits and hyphens, at most 31, a letter first"
_MODULE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")
_SCENARIOS = re.compile(rf"{_MODULE.pattern}|[^\s]+\.py")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ON_FAILURE = re.compile(r"on-failure:([1-9][0-9]{0,3})")
_URL = re.compile(r"[a-z][a-z0-9+]*://\S*")

CONDITIONS = ("service_started", "service_healthy", "service_completed_successfully")
_TEST_WORDS = ("tcp", "notify", "NONE")
_TEST_FORMS = {("http", 2), ("CMD-SHELL", 2), ("log", 2), *((word, 1) for word in _TEST_WORDS)}
_LIMIT_FREE = ("no", "always", "on-failure", "unless-stopped")


@takes(
    values.filled_in(
        {"type": "string", "pattern": f"^({'|'.join(_LIMIT_FREE)}|{_ON_FAILURE.pattern})$"}
    )
)
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


@takes({"anyOf": [values.TEXT, {**values.WORDS, "minItems": 1}]})
def _test(item: Item) -> tuple[str, ...] | None:
    """`http /path`, `tcp`, `log EXPRESSION`, `notify`, a line for the shell; or these as a list."""
    return _test_list(item) if item.is_list else _test_line(item)


_HEALTHCHECK: Readers = {
    "test": _test.about("http /path, tcp, log EXPRESSION, notify, or a command."),
    "interval": values.seconds.about("From one question to the next; 1s by default."),
    "timeout": values.seconds.about("No answer within it is a bad one; 1s by default."),
    "retries": values.whole(1, 100).about("Bad answers in a row that count; 3 by default."),
    "start_period": values.seconds.about("Bad answers do not count yet; 10s by default."),
    "start_interval": values.seconds.about(
        "From question to question until the first good answer."
    ),
    "disable": values.flag.about("true: it is ready as soon as it runs."),
}
_HEALTHCHECK_NAMES = {
    key: f"{key}_s" for key in ("interval", "timeout", "start_period", "start_interval")
}


@takes(mapping(_HEALTHCHECK))
def _healthcheck(item: Item) -> Healthcheck | None:
    found = values.known(item, _HEALTHCHECK, _HEALTHCHECK_NAMES)
    if found.pop("disable", False):
        return Healthcheck(UNASKED)
    return codec.replace(Healthcheck(), **found)


_DEPENDENCY: Readers = {
    "condition": values.one_of(*CONDITIONS).about("What must hold of it; by default that it runs."),
    "required": values.flag.about("false: do without it if it is not started."),
}


@takes(
    {
        "anyOf": [
            values.TEXTS,
            {"type": "object", "additionalProperties": mapping(_DEPENDENCY)},
        ]
    }
)
def _depends_on(item: Item) -> dict[str, Dependency] | None:
    """`[a, b]`, or `{a: {condition: …, required: …}}`."""
    if item.is_list:
        return dict.fromkeys(values.texts(item) or (), Dependency())
    found: dict[str, Dependency] = {}
    for name, _, member in item.members():
        said = values.known(member, _DEPENDENCY, {})
        found[name] = Dependency(
            condition=cast("Condition", said.get("condition", "service_started")),
            required=said.get("required") is not False,
        )
    return found


def _environment(env: Mapping[str, str]) -> Reader[dict[str, str]]:
    """`{NAME: value}` or `[NAME=value]`; a name without a value takes it from `env`, if set."""

    def assign(found: dict[str, str], item: Item, name: str, value: str | None) -> None:
        if not _VARIABLE.fullmatch(name):
            item.complain(f"`{name}` cannot be a variable's name")
        elif value is not None:
            found[name] = value
        elif name in env:
            found[name] = env[name]

    said = {"type": ["string", "number", "null"]}

    @takes({"anyOf": [values.TEXTS, {"type": "object", "additionalProperties": said}]})
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


_WATCH_RULE: Readers = {"path": values.text, "action": values.one_of("restart")}


def _watch_rule(item: Item) -> WatchRule | None:
    found = values.known(item, _WATCH_RULE, {})
    if isinstance(item.node.value, dict) and "path" not in item.node.value:
        item.complain("needs a `path`")
    path = found.get("path")
    return WatchRule(path) if isinstance(path, str) else None


@takes({"type": "array", "items": mapping(_WATCH_RULE, required=["path"])})
def _watch(rules: Item) -> tuple[WatchRule, ...]:
    return tuple(rule for rule in map(_watch_rule, rules.elements()) if rule)


_DEVELOP: Readers = {"watch": _watch.about("`mesh up --watch` restarts it when these change.")}


@takes(mapping(_DEVELOP))
def _develop(item: Item) -> tuple[WatchRule, ...] | None:
    found = values.known(item, _DEVELOP, {})
    return cast("tuple[WatchRule, ...] | None", found.get("watch"))


@takes({"type": "object"})
def _seed(item: Item) -> dict[str, object] | None:
    return {name: member.node.plain() for name, _, member in item.members()}


_MODE = values.one_of("auto", "required", "off")
_SANDBOX: Readers = {
    "mode": _MODE.about("auto: walls where the kernel has them; required: not without; off: none."),
    "network": values.one_of("open", "peers").about("peers: it connects to the ports in its URLs."),
    "read": values.text_or_texts.about("Further files and folders that it may read."),
    "write": values.text_or_texts.about("Further files and folders that it may write."),
}


@takes({"anyOf": [_MODE.schema, mapping(_SANDBOX)]})
def _sandbox(item: Item) -> Sandbox | None:
    """One of the modes, or `{mode: …, network: …, read: […], write: […]}`."""
    if isinstance(item.node.value, dict):
        return codec.replace(Sandbox(), **values.known(item, _SANDBOX, {}))
    mode = _MODE(item)
    return None if mode is None else codec.replace(Sandbox(), mode=mode)


def _service_readers(env: Mapping[str, str]) -> Readers:
    return {
        "module": values.matching(_MODULE, "a module such as myshop.greeter").about(
            "A service of this framework, importable from the project's folder."
        ),
        "command": values.argv.about("Any other program, as a list or as a line."),
        "port": values.port.about("Used as given; 0 or left out: any that is free."),
        "socket": values.one_of("inherit", "own").about(
            "inherit: it is handed the listening socket (LISTEN_FDS); own: it listens on $PORT."
        ),
        "database": values.matching(_URL, "a URL such as sqlite://").about("Its own, by URL."),
        "seed": _seed.about("What the service plants in its fresh database, once."),
        "calls": values.texts.about("Whom it may ask; everybody else refuses it."),
        "depends_on": _depends_on.about("What must be there before it starts."),
        "environment": _environment(env).about("Variables, over those of env_file."),
        "env_file": values.text_or_texts.about("Files of NAME=value lines."),
        "working_dir": values.text.about("Where it runs, from the project's folder."),
        "restart": _restart.about(
            "When it is started again; on-failure:N gives up after N in 60 s."
        ),
        "stop_signal": values.signal_name.about("What asks it to end; SIGTERM by default."),
        "stop_grace_period": values.seconds.about("After this it is killed; 10s by default."),
        "healthcheck": _healthcheck.about("How it is asked whether it is ready and well."),
        "sandbox": _sandbox.about("Walls around it: where there are any, always, or never."),
        "develop": _develop.about("For `mesh up --watch`."),
    }


_SERVICE_NAMES = {"stop_grace_period": "stop_grace_period_s", "develop": "watch"}


def _services(env: Mapping[str, str]) -> Reader[dict[str, Service]]:
    readers = _service_readers(env)
    one = mapping(readers, oneOf=[{"required": ["module"]}, {"required": ["command"]}])

    @takes(
        {
            "type": "object",
            "propertyNames": {"pattern": f"^{NAME.pattern}$"},
            "additionalProperties": one,
            "maxProperties": SERVICES_MAX,
        }
    )
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


_EXERCISE: Readers = {
    "scenarios": values.matching(
        _SCENARIOS, "a module such as myshop.scenarios, or a file such as scenarios.py"
    ).about("What visitors do: a file or module with `scenarios = (Scenario(…), …)`."),
}


@takes(mapping(_EXERCISE))
def _exercise(item: Item) -> Exercise | None:
    return codec.replace(Exercise(), **values.known(item, _EXERCISE, {}))


def _readers(env: Mapping[str, str]) -> Readers:
    return {
        "name": values.matching(NAME, _NAME_FORM).about("Of the project; else that of its folder."),
        "bus": values.matching(_URL, "a URL such as zmq://").about("Where events go."),
        "services": _services(env).about("Each a program of its own."),
        "exercise": _exercise.about("For `mesh exercise`."),
    }


def schema() -> Schema:
    """The JSON Schema of a configuration file, for editors (draft 7, which they all know).

    What the parts of a file must be to one another is `check`'s and not said here.
    """
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "mesh.yaml",
        **mapping(_readers({}), required=["services"]),
    }


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
    readers = _readers(env)
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
