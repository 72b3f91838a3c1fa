"""Everything that can be wrong with a file, each with its place and, where there is one, a way out."""

from __future__ import annotations

from textwrap import dedent

import pytest

from mesh.configs import load
from mesh.configs.complaints import COMPLAINTS_MAX
from mesh.configs.document import DEPTH_MAX, FILE_BYTES_MAX, NODES_MAX
from mesh.errors import ConfigInvalid


def complaints(tmp_path, text) -> list[str]:
    content = text if isinstance(text, bytes) else dedent(text).encode()
    (tmp_path / "mesh.yaml").write_bytes(content)
    with pytest.raises(ConfigInvalid) as raised:
        load(None, env={}, cwd=tmp_path)
    return [line.removeprefix("mesh.yaml:") for line in raised.value.complaints]


def service(line) -> str:
    """A file whose fourth line is about a service."""
    return f"bus: zmq://\nservices:\n  a: {{command: sleep 1}}\n  order: {{{line}}}\n"


BAD = {
    "unknown key": (
        service("command: x, prot: 1"),
        "4:23: services.order.prot: unknown key, did you mean `port`?",
    ),
    "unknown key at the top": (
        "servces: {}\nservices: {a: {command: x}}\n",
        "1:1: servces: unknown key, did you mean `services`?",
    ),
    "no scenarios": (
        "exercise: {scenarios: a b}\nservices: {a: {command: x}}\n",
        "1:23: exercise.scenarios: must be a module such as myshop.scenarios, or a file such as scenarios.py, not `a b`",
    ),
    "unknown key of an exercise": (
        "exercise: {scenario: a}\nservices: {a: {command: x}}\n",
        "1:12: exercise.scenario: unknown key, did you mean `scenarios`?",
    ),
    "unknown key in a health check": (
        service("command: x, healthcheck: {test: tcp, retrys: 1}"),
        "4:48: services.order.healthcheck.retrys: unknown key, did you mean `retries`?",
    ),
    "key twice": ("name: a\nname: b\nservices: {a: {command: x}}\n", "2:1: the key `name` is already on line 1"),
    "no services": ("name: shop\n", "1:1: there are no `services:`"),
    "empty file": ("", "1:1: the file is empty; it needs at least `services:`"),
    "only a comment": ("# nothing\n", "1:1: the file is empty; it needs at least `services:`"),
    "a list at the top": ("- a\n", "1:1: the file must be a mapping, not a list"),
    "neither module nor command": (
        service("port: 1"),
        "4:3: services.order: needs a `module` or a `command`, it has neither",
    ),
    "both module and command": (
        service("module: x, command: y"),
        "4:3: services.order: needs a `module` or a `command`, not both",
    ),
    "module is a path": (
        service("module: ./x.py"),
        "4:19: services.order.module: must be a module such as myshop.greeter, not `./x.py`",
    ),
    "port out of range": (
        service("command: x, port: 65536"),
        "4:29: services.order.port: must be a whole number from 0 to 65535, not `65536`",
    ),
    "port is text": (
        service("command: x, port: '80'"),
        "4:29: services.order.port: must be a whole number from 0 to 65535, not `80`",
    ),
    "port is a flag": (
        service("command: x, port: true"),
        "4:29: services.order.port: must be a whole number from 0 to 65535, not `true`",
    ),
    "port twice": (
        "services:\n  a: {command: x, port: 80}\n  b: {command: x, port: 80}\n",
        "3:19: services.b.port: 80 is `a`'s already",
    ),
    "unknown peer": (
        "services:\n  product: {command: x}\n  order: {command: x, calls: [prodct]}\n",
        "3:31: services.order.calls: there is no service `prodct`, did you mean `product`?",
    ),
    "unknown dependency": (
        service("command: x, depends_on: {ordr: {}}"),
        "4:36: services.order.depends_on: there is no service `ordr`, did you mean `order`?",
    ),
    "a bus that is not there": (
        "services: {a: {command: x, depends_on: [bus]}}\n",
        "1:41: services.a.depends_on: there is no `bus:`, for example `bus: zmq://`",
    ),
    "a module without a bus": (
        "services: {a: {module: x}}\n",
        "1:12: services.a: a `module` needs a bus, for example `bus: zmq://`",
    ),
    "waits for itself": (
        service("command: x, depends_on: [order]"),
        "4:36: services.order.depends_on: a cycle: order -> order",
    ),
    "a cycle of three": (
        ("services:\n  a: {command: x, depends_on: [b]}\n  b: {command: x, depends_on: [c]}\n"
        "  c: {command: x, depends_on: [a]}\n"),
        "4:32: services.c.depends_on: a cycle: a -> b -> c -> a",
    ),
    "unknown condition": (
        service("command: x, depends_on: {a: {condition: service_helthy}}"),
        ("4:51: services.order.depends_on.a.condition: must be service_started or service_healthy"
        " or service_completed_successfully, not `service_helthy`,"
        " did you mean `service_healthy`?"),
    ),
    "restart is a flag": (
        service("command: x, restart: false"),
        ("4:32: services.order.restart: must be no, always, on-failure, on-failure:N or"
        " unless-stopped, not `false`"),
    ),
    "restart limit of zero": (
        service("command: x, restart: 'on-failure:0'"),
        ("4:32: services.order.restart: must be no, always, on-failure, on-failure:N or"
        " unless-stopped, not `on-failure:0`"),
    ),
    "duration without unit": (
        service("command: x, stop_grace_period: 10"),
        ("4:42: services.order.stop_grace_period: must be a duration such as 10s, 1m30s or 500ms,"
        " not `10`; for seconds write `10s`"),
    ),
    "duration of a week": (
        service("command: x, stop_grace_period: 7d"),
        "4:42: services.order.stop_grace_period: is longer than a day",
    ),
    "unknown signal": (
        service("command: x, stop_signal: SIGTREM"),
        ("4:36: services.order.stop_signal: must be a signal such as SIGTERM or SIGINT,"
        " not `SIGTREM`"),
    ),
    "health check for a line that is none": (
        service("command: x, healthcheck: {test: 'log listening on ('}"),
        ("4:43: services.order.healthcheck.test: `listening on (` is no regular expression:"
        " missing ), unterminated subpattern at position 13"),
    ),
    "health check without path": (
        service("command: x, healthcheck: {test: http}"),
        "4:43: services.order.healthcheck.test: must name a path, for example `http /readyz`",
    ),
    "health check of another kind": (
        service("command: x, healthcheck: {test: [grpc, x]}"),
        ("4:43: services.order.healthcheck.test: must be [http, /path], [tcp], [CMD, program, …],"
        " [CMD-SHELL, line], [log, expression] or [notify]"),
    ),
    "variable not set": (
        service("command: x, environment: {A: '${NOPE}'}"),
        "4:40: the variable NOPE is not set; ${NOPE:-default} would give it one",
    ),
    "a dollar alone": (
        service("command: x, environment: {A: $argon2id}"),
        "4:40: a `$` stands alone: write ${NAME}, ${NAME:-default}, or $$ for a dollar",
    ),
    "environment is a flag": (
        service("command: x, environment: {A: true}"),
        ("4:40: services.order.environment.A: must be text or a number, not `true`;"
        " put it in quotes"),
    ),
    "environment with a bad name": (
        service("command: x, environment: ['A B=1']"),
        "4:37: services.order.environment[0]: `A B` cannot be a variable's name",
    ),
    "no env_file": (
        service("command: x, env_file: [.nope]"),
        "4:34: services.order.env_file: .nope: no such file or directory",
    ),
    "no working_dir": (
        service("command: x, working_dir: nope"),
        "4:23: services.order.working_dir: no folder nope",
    ),
    "bad service name": (
        "services:\n  Order: {command: x}\n",
        ("2:3: services.Order: must be a name of lower-case letters, digits and hyphens,"
        " at most 31, a letter first"),
    ),
    "a name that climbs": (
        "services:\n  ../../etc: {command: x}\n",
        ("2:3: services.../../etc: must be a name of lower-case letters, digits and hyphens,"
        " at most 31, a letter first"),
    ),
    "a name of ours": (
        "services:\n  operator: {command: x}\n",
        "2:3: services.operator: the name is taken by mesh itself",
    ),
    "service is nothing": (
        "services:\n  order:\n",
        "2:9: services.order: must be a mapping, not nothing",
    ),
    "no backend for the bus": (
        "bus: natz://x\nservices: {a: {command: x}}\n",
        "1:1: bus: there is no backend for natz://; present: zmq://",
    ),
    "no backend for a database": (
        service("command: x, database: sqlit://"),
        ("4:23: services.order.database: there is no backend for sqlit://; present: sqlite://,"
        " did you mean `sqlite`?"),
    ),
    "command is empty": (
        service("command: []"),
        "4:20: services.order.command: must name a program",
    ),
    "command with an open quote": (
        service("command: \"sh -c 'x\""),
        "4:20: services.order.command: cannot be split into words: No closing quotation",
    ),
    "sandbox of another kind": (
        service("command: x, sandbox: on"),
        "4:32: services.order.sandbox: must be auto or required or off, not `on`",
    ),
    "sandbox with a slip": (
        service("command: x, sandbox: {netwrok: peers}"),
        "4:33: services.order.sandbox.netwrok: unknown key, did you mean `network`?",
    ),
    "sandbox with an unknown word": (
        service("command: x, sandbox: {network: closed}"),
        "4:42: services.order.sandbox.network: must be open or peers, not `closed`",
    ),
    "sandbox that reads what is not there": (
        service("command: x, sandbox: {read: [assets]}"),
        "4:40: services.order.sandbox.read: no folder or file assets",
    ),
    "seed is a list": (
        service("command: x, seed: [1]"),
        "4:29: services.order.seed: must be a mapping, not a list",
    ),
    "watch without a path": (
        service("command: x, develop: {watch: [{action: restart}]}"),
        "4:41: services.order.develop.watch[0]: needs a `path`",
    ),
    "a tag": (service("command: !!python/name:os.system x"), "4:20: a tag like this one is not understood here; leave it out"),
    "a merge key": (
        "x-a: &a {port: 1}\nservices:\n  b: {<<: *a, command: x}\n",
        ("3:7: services.b.<<: unknown key; known are calls, command, database, depends_on, develop,"
        " env_file, environment, healthcheck, module, port, restart, sandbox, seed, socket,"
        " stop_grace_period, stop_signal, working_dir"),
    ),
    "a tab": ("services:\n\ta: {}\n", "2:1: not YAML: indent with spaces, not tabs, while scanning for the next token, found character that cannot start any token"),
    "broken YAML": ("services: [a\n", "2:1: not YAML: while parsing a flow sequence, did not find expected ',' or ']'"),
    "two documents": ("a: 1\n---\nb: 1\n", "2:1: a second document begins here; one file holds one configuration"),
    "not UTF-8": (b"name: a\nbus: \xff\n", "2:6: not UTF-8 from here on"),
    "a control character": (b"name: a\nbus: \x1b[31m\n", "2:6: not YAML: a control character"),
    "an alias to itself": ("a: &a [*a]\n", "1:8: the alias *a stands for nothing that is complete above it"),
    "a key that is a list": ("? [a]\n: 1\n", "1:3: a key must be plain text"),
    "nested beyond reason": ("[" * 200_000, f"1:{DEPTH_MAX + 1}: nested deeper than {DEPTH_MAX}"),
    "a file beyond reason": ("#" * (FILE_BYTES_MAX + 1), f"1:1: larger than {FILE_BYTES_MAX} bytes"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_answered_with_place_and_reason(tmp_path, case):
    text, expected = BAD[case]
    assert expected in complaints(tmp_path, text)


def test_a_bomb_of_aliases_is_refused_without_being_unfolded(tmp_path):
    rows = [f"a0: &a0 [{', '.join('x' * 10)}]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    found = complaints(tmp_path, "\n".join(rows))
    assert len(found) == 1
    assert found[0].endswith(f"more than {NODES_MAX} values, aliases followed")


def test_all_complaints_come_at_once_in_the_order_of_the_file(tmp_path):
    found = complaints(
        tmp_path,
        """
        name: Shop
        servces: {}
        services:
          order:
            modul: mesh.services.order
            port: http
            restart: sometimes
            calls: [nobody]
            environment: {A: '${NOPE}'}
          order2: {command: [], depends_on: [order3]}
        """,
    )
    places = [tuple(map(int, line.split(":")[:2])) for line in found]
    assert places == sorted(places)
    assert [line for line, _ in places] == [2, 3, 5, 6, 7, 8, 9, 10, 11, 11]


def test_what_is_wrong_already_is_not_complained_of_twice(tmp_path):
    found = complaints(tmp_path, service("command: x, port: '${NOPE}'"))
    assert found == ["4:29: the variable NOPE is not set; ${NOPE:-default} would give it one"]


def test_a_file_of_noise_is_cut_short(tmp_path):
    noise = "".join(f"key{n}: 1\n" for n in range(COMPLAINTS_MAX * 2))
    found = complaints(tmp_path, noise)
    assert len(found) == COMPLAINTS_MAX + 1
    assert found[-1].endswith(f"and {COMPLAINTS_MAX + 1} more")


def test_the_value_of_a_bad_env_file_line_is_not_shown(tmp_path):
    (tmp_path / ".env").write_text("GOOD=1\nhunter2-secret\n")
    found = complaints(tmp_path, service("command: x, env_file: .env"))
    assert found == ["4:23: services.order.env_file: .env: line 2 is not NAME=value"]


def test_a_link_to_nowhere_is_reported(tmp_path):
    with pytest.raises(ConfigInvalid) as raised:
        load("nowhere.yaml", env={}, cwd=tmp_path)
    assert raised.value.complaints == ("nowhere.yaml:1:1: there is no such file",)
