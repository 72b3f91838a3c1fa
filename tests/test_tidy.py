"""House rules that no linter knows, read from the syntax trees of mesh/.

Each rule has its exceptions beside it, with a reason; an exception nobody needs any more fails.
"""

from __future__ import annotations

import ast
import io
import json
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import mesh

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

ROOT = Path(mesh.__file__).parent
LINES_MAX = 400


class Module(NamedTuple):
    """One source file; `path` counts from mesh/."""

    path: str
    text: str
    tree: ast.Module


def parsed(text: str, path: str = "sample.py") -> Module:
    return Module(path, text, ast.parse(text))


@pytest.fixture(scope="module")
def modules() -> list[Module]:
    return [
        parsed(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
        for path in sorted(ROOT.rglob("*.py"))
    ]


def _dotted(node: ast.AST) -> str:
    """`a.b.c` of a name or an attribute; empty for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        front = _dotted(node.value)
        return f"{front}.{node.attr}" if front else ""
    return ""


def _imported(tree: ast.Module) -> Iterator[str]:
    """Everything imported anywhere in the file, in full: `datetime.datetime`, `time`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def without_docstring(module: Module) -> Iterator[str]:
    if not ast.get_docstring(module.tree):
        yield "no docstring"


def prints(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Call) and _dotted(node.func) in {"print", "builtins.print"}:
            yield f"print in line {node.lineno}"


CHANCE = frozenset({"random", "uuid", "secrets"})
ENTROPY = frozenset({"os.urandom", "os.getrandom"})
WALL = frozenset(
    f"time.{name}"
    for name in (
        "time",
        "time_ns",
        "gmtime",
        "localtime",
        "ctime",
        "strftime",
        "monotonic",
        "perf_counter",
    )
)


def asks_time_or_chance(module: Module) -> Iterator[str]:
    """By import: a name that cannot be reached cannot be called."""
    wall = WALL if "time" in _imported(module.tree) else frozenset()
    for name in _imported(module.tree):
        room = name.partition(".")[0]
        if room in CHANCE or room == "datetime" or name in WALL | ENTROPY:
            yield room
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Attribute) and _dotted(node) in wall | ENTROPY:
            yield _dotted(node)


def names_any(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        named = isinstance(node, ast.Name) and node.id == "Any"
        if named or _dotted(node) in {"typing.Any", "t.Any"}:
            yield f"Any in line {node.lineno}"
    yield from (f"imports {name}" for name in _imported(module.tree) if name == "typing.Any")


def declares_protocols(module: Module) -> Iterator[str]:
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.ClassDef):
            continue
        for parent in node.bases:
            bare = parent.value if isinstance(parent, ast.Subscript) else parent
            if _dotted(bare).rpartition(".")[2] == "Protocol":
                yield node.name


VAGUE = frozenset({"utils", "util", "helpers", "helper", "common", "base", "misc", "manager"})


def vaguely_named(module: Module) -> Iterator[str]:
    path = Path(module.path)
    yield from VAGUE & {*path.parent.parts, path.stem}


def too_long(module: Module) -> Iterator[str]:
    lines = module.text.count("\n")
    if lines > LINES_MAX:
        yield f"over {LINES_MAX} lines"


_MARK = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def unfinished(module: Module) -> Iterator[str]:
    """Marks in comments and in text; a name such as `xxx` is neither."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type in {tokenize.COMMENT, tokenize.STRING}:
            yield from _MARK.findall(token.string)


def loose_tasks(module: Module) -> Iterator[str]:
    """Functions that start a task no TaskGroup waits for."""
    groups = {
        item.optional_vars.id
        for node in ast.walk(module.tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(item.context_expr, ast.Call)
        and _dotted(item.context_expr.func).endswith("TaskGroup")
        and isinstance(item.optional_vars, ast.Name)
    }
    for function in ast.walk(module.tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        for node in ast.walk(function):
            if not isinstance(node, ast.Call):
                continue
            called, owner = node.func, None
            if isinstance(called, ast.Attribute):
                owner, name = called.value, called.attr
            else:
                name = _dotted(called)
            if name not in {"create_task", "ensure_future"}:
                continue
            if not (isinstance(owner, ast.Name) and owner.id in groups):
                yield function.name


_SQL = re.compile(
    r"\s*(SELECT|INSERT|UPDATE|DELETE|REPLACE|WITH|CREATE|DROP|ALTER|PRAGMA|ATTACH|VACUUM|EXPLAIN)\s"
)
_CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]*")


def _literal(node: ast.AST) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(each) for each in node.values)
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def puts_into_sql(module: Module) -> Iterator[str]:
    """What becomes part of a statement other than as a bound parameter, but for constants."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.JoinedStr) and _SQL.match(_literal(node)):
            for part in node.values:
                if isinstance(part, ast.FormattedValue) and not _CONSTANT.fullmatch(
                    _dotted(part.value).rpartition(".")[2]
                ):
                    yield ast.unparse(part.value)
        elif isinstance(node, ast.BinOp) and _SQL.match(_literal(node.left)):
            if not _CONSTANT.fullmatch(_dotted(node.right)):
                yield ast.unparse(node.right)
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and _SQL.match(_literal(node.func.value))
        ):
            yield f"{node.func.attr} in line {node.lineno}"


_SECRET = re.compile(r"(.*_)?(password|secret|digest|signature|mac|hash|token|pepper)s?")


def compares_secrets(module: Module) -> Iterator[str]:
    """Comparisons that end at the first byte that differs."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Compare) and any(
            isinstance(each, ast.Eq | ast.NotEq) for each in node.ops
        ):
            sides = [
                each.func if isinstance(each, ast.Call) else each
                for each in (node.left, *node.comparators)
            ]
            if any(_SECRET.fullmatch(_dotted(each).rpartition(".")[2]) for each in sides):
                yield ast.unparse(node).partition("(")[0]


def asserts_more_than_a_type(module: Module) -> Iterator[str]:
    """`python -O` leaves asserts out: they may tell the type checker something, and decide nothing."""
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.Assert):
            continue
        told = node.test
        of_type = isinstance(told, ast.Call) and _dotted(told.func) == "isinstance"
        not_none = (
            isinstance(told, ast.Compare)
            and isinstance(told.ops[0], ast.IsNot)
            and _dotted(told.left) != ""
        )
        if not (of_type or not_none):
            yield f"assert {ast.unparse(told)}"


_SILENCE = re.compile(
    r"#\s*(ruff:\s*noqa|flake8:\s*noqa|nosec\b|noqa(?!:))|noqa:[\sA-Z0-9,]*\bS\d+[\s,#]*$"
)


def silences_without_a_reason(module: Module) -> Iterator[str]:
    """A rule of security is silenced in one line, by its name, with a reason; nothing wholesale."""
    for token in tokenize.generate_tokens(io.StringIO(module.text).readline):
        if token.type == tokenize.COMMENT and _SILENCE.search(token.string):
            yield token.string


class Rule(NamedTuple):
    """A rule, and who need not keep it: the offence → why."""

    offences: Callable[[Module], Iterator[str]]
    exceptions: Mapping[tuple[str, str], str]


RULES = {
    "every module has a docstring": Rule(without_docstring, {}),
    "only output.py prints": Rule(prints, {}),
    "time and chance come through clock.py": Rule(
        asks_time_or_chance,
        {
            ("clock.py", "random"): "this is the door",
            ("clock.py", "datetime"): "this is the door",
            ("clock.py", "time.monotonic"): "this is the door",
            ("clock.py", "time.time_ns"): "this is the door",
            ("orchestrator/starter.py", "random"): "re-seeds the generator in each forked child",
            (
                "services/auth/model.py",
                "secrets",
            ): "refresh tokens are secrets; the clock's are not",
        },
    ),
    "Any stands in codec.py alone": Rule(names_any, {}),
    "protocols stand in contract.py": Rule(declares_protocols, {}),
    "a module's name says what it is": Rule(vaguely_named, {}),
    f"a file has at most {LINES_MAX} lines": Rule(
        too_long,
        {},
    ),
    "nothing is marked as unfinished": Rule(unfinished, {}),
    "SQL has bound parameters": Rule(
        puts_into_sql,
        {
            ("buses/zmq/files.py", "table"): "one of two names of our own",
            ("buses/zmq/log.py", "name"): "a table of our own",
            ("buses/zmq/logfile.py", "name"): "a pragma of our own",
            ("databases/sqlite/checkpoints.py", "ask('PRAGMA user_version')[0][0]"): "a number",
            ("databases/sqlite/checkpoints.py", "mode"): "one of SQLite's own words",
            ("databases/sqlite/connections.py", "found"): "a pragma's value, in an error's text",
            ("databases/sqlite/connections.py", "name"): "a pragma of our own",
            ("databases/sqlite/connections.py", "value"): "a pragma's value, of our own",
            ("databases/sqlite/copies.py", "name"): "a pragma of our own",
            ("databases/sqlite/copies.py", "value"): "a pragma's value, of our own",
            ("databases/sqlite/statements.py", "found"): "a pragma's value, in an error's text",
            ("databases/sqlite/statements.py", "name"): "a pragma of our own",
            ("databases/sqlite/statements.py", "value"): "a number",
            ("exercise/ledger.py", "' UNION '.join(each)"): "tables and columns of the bus",
            ("exercise/ledger.py", "column"): "likewise",
            ("exercise/ledger.py", "last"): "likewise",
            ("exercise/ledger.py", "newest"): "likewise",
            ("exercise/ledger.py", "place"): "likewise",
            ("exercise/ledger.py", "source.table"): "likewise",
            ("exercise/ledger.py", "source.where"): "likewise",
            ("exercise/ledger.py", "source.where.replace('stream', 'o.stream', 1)"): "likewise",
            ("exercise/verify.py", "row.of"): "what a service's table names",
            ("exercise/verify.py", "table"): "one of our own",
            ("framework/history.py", "seq"): "a number, formatted as one",
            ("framework/transaction.py", "which"): "names of deferred work, from the table",
            ("services/auth/store.py", "table"): "one of two names beside it",
            (
                "services/order/promises.py",
                "', '.join((f\"'{row.source}>{row.target}'\" for row in MOVES.rows))",
            ): "states, from the table of moves",
            ("snapshot.py", "found[1]"): "names that SQLite itself says, quoted",
            ("snapshot.py", "found[2]"): "likewise",
        },
    ),
    "secrets are not compared by ==": Rule(
        compares_secrets,
        {
            ("buses/zmq/protocol/lineage.py", "event.hash == chain_hash"): "no secret: a checksum",
            ("buses/zmq/protocol/lineage.py", "event.prev_hash == head.hash"): "likewise",
            ("commands/archive.py", "digest"): "likewise",
            ("exercise/ledger.py", "kept != at.hash"): "likewise",
            ("framework/cursors.py", "each.prev_hash == before.hash"): "likewise",
            ("services/order/model.py", "token != 'tok_declined'"): "a name that everybody knows",
            ("services/order/model.py", "token == 'tok_slow'"): "likewise",
        },
    ),
    "an assert decides nothing": Rule(asserts_more_than_a_type, {}),
    "a rule of security is silenced with a reason": Rule(silences_without_a_reason, {}),
    "every task is waited for": Rule(
        loose_tasks,
        {
            ("buses/zmq/delivery.py", "_ask"): "one at a time, in `_task`; `close` waits for it",
            (
                "buses/zmq/program.py",
                "_until_stopped",
            ): "heartbeat and sweep; cancelled when serving ends",
            ("buses/zmq/relay.py", "_spawn"): "kept in `_tasks`; `close` waits for all of them",
            (
                "databases/sqlite/database.py",
                "close",
            ): "closing goes on when its asker is cancelled; kept in `_closing`",
            ("databases/sqlite/database.py", "hold"): "the standing writer; `hold` waits for it to "
            "stand, and it goes on by itself",
            ("databases/sqlite/database.py", "submit"): "the same, by its inner name",
            ("databases/sqlite/scans.py", "all"): "a read outlives its cancelled asker; kept in "
            "`_running` until it is over",
            (
                "framework/accepting.py",
                "_accept",
            ): "kept in `_entering`; `stop` waits for all of them",
            ("framework/protocol.py", "_begin"): "kept in `task`; ending the server waits for all",
            ("notify.py", "getting_on"): "cancelled and waited for where what it tells of ends",
            ("orchestrator/control.py", "_accepted"): "a connection; kept in `_clients`, which "
            "closing cancels and waits for",
            ("orchestrator/control.py", "_converse"): "awaited in the next lines; kept, so that "
            "closing lets it finish",
            ("orchestrator/control.py", "_watch"): "two that race; both are cancelled and awaited",
            (
                "orchestrator/runner.py",
                "_begin",
            ): "kept in `_work`; cancelled when the process ends or "
            "the runner closes, and not waited for",
            ("orchestrator/supervisor.py", "end"): "kept and handed out: ending is what others "
            "wait for",
        },
    ),
}

HOMES = {
    "only output.py prints": lambda path: path == "commands/output.py",
    "Any stands in codec.py alone": lambda path: path == "codec.py",
    "protocols stand in contract.py": lambda path: Path(path).name == "contract.py",
}
"""Where a rule does not apply at all."""


@pytest.mark.parametrize("name", RULES)
def test_house_rule_holds(name: str, modules: list[Module]):
    rule = RULES[name]
    at_home = HOMES.get(name, lambda _: False)
    found = {
        (module.path, offence)
        for module in modules
        if not at_home(module.path)
        for offence in rule.offences(module)
    }
    assert found - set(rule.exceptions) == set(), name
    assert set(rule.exceptions) - found == set(), f"no longer needed: {name}"
    assert all(rule.exceptions.values()), "an exception has a reason"


@pytest.mark.parametrize(
    ("offences", "text"),
    [
        (without_docstring, "import os"),
        (prints, "def f():\n    print(1)"),
        (asks_time_or_chance, "import random"),
        (asks_time_or_chance, "import time\ntime.time()"),
        (asks_time_or_chance, "from time import time"),
        (asks_time_or_chance, "from datetime import datetime"),
        (asks_time_or_chance, "import os\nos.urandom(3)"),
        (asks_time_or_chance, "from os import urandom"),
        (asks_time_or_chance, "def f():\n    import uuid"),
        (names_any, "from typing import Any"),
        (names_any, "import typing\nx: typing.Any"),
        (declares_protocols, "class A(Protocol[T]): ..."),
        (declares_protocols, "import typing\nclass A(typing.Protocol): ..."),
        (too_long, "\n" * (LINES_MAX + 1)),
        (unfinished, f"x = 1  # {'TO' + 'DO'}: more"),
        (loose_tasks, "async def f():\n    asyncio.create_task(g())"),
        (loose_tasks, "async def f(self):\n    self.loop.create_task(g())"),
        (loose_tasks, "async def f():\n    ensure_future(g())"),
        (puts_into_sql, "read.one(int, f'SELECT 1 FROM t WHERE a = {name}')"),
        (puts_into_sql, "tx.execute('DELETE FROM t WHERE a = ' + name)"),
        (puts_into_sql, "tx.execute('UPDATE t SET a = %s' % name)"),
        (puts_into_sql, "tx.execute('INSERT INTO {}'.format(name))"),
        (compares_secrets, "if request.password == kept: ..."),
        (compares_secrets, "if sent != digest(token): ..."),
        (asserts_more_than_a_type, "assert caller.id == user_id"),
        (silences_without_a_reason, "x = y  # noqa"),
        (silences_without_a_reason, "x = y  # noqa: S608"),
        (silences_without_a_reason, "# ruff: noqa: S"),
        (silences_without_a_reason, "x = y  # nosec"),
    ],
)
def test_house_rule_sees_an_offence(offences: Callable[[Module], Iterator[str]], text: str):
    assert list(offences(parsed(text)))


def test_vague_names_are_seen():
    assert list(vaguely_named(parsed("", "orchestrator/utils.py")))
    assert list(vaguely_named(parsed("", "common/thing.py")))


@pytest.mark.parametrize(
    ("offences", "text"),
    [
        (asks_time_or_chance, "from mesh import clock\nclock.now_ms()"),
        (asks_time_or_chance, "import time\ntime.sleep(1)"),
        (unfinished, "xxx = 1"),
        (puts_into_sql, "read.one(int, f'SELECT {COLUMNS} FROM t WHERE a = :a', a=name)"),
        (compares_secrets, "hmac.compare_digest(kept, token)"),
        (asserts_more_than_a_type, "assert self._client is not None"),
        (silences_without_a_reason, "x = y  # noqa: S608  our own tables"),
        (
            loose_tasks,
            "async def f():\n    async with asyncio.TaskGroup() as g:\n        g.create_task(h())",
        ),
    ],
)
def test_house_rule_lets_what_is_right_pass(offences: Callable[[Module], Iterator[str]], text: str):
    assert not list(offences(parsed(text)))


WRONG = {
    "S102": "exec(text)",
    "S301": "import pickle\npickle.loads(raw)",
    "S302": "import marshal\nmarshal.loads(raw)",
    "S306": "import tempfile\ntempfile.mktemp()",
    "S307": "eval(text)",
    "S311": "import random\nrandom.random()",
    "S324": "import hashlib\nhashlib.md5(raw)",
    "S501": "import requests\nrequests.get(url, verify=False)",
    "S506": "import yaml\nyaml.load(text)",
    "S602": "import subprocess\nsubprocess.run(text, shell=True)",
    "S605": "import os\nos.system(text)",
    "S608": "read(f'SELECT 1 FROM t WHERE a = {text}')",
    "PGH004": "x = 1  # noqa",
    "RUF100": "x = 1  # noqa: S608",
}
"""What ruff is to see in mesh/, with the settings of this project."""


def test_linter_sees_what_is_dangerous():
    ruff = Path(sys.executable).with_name("ruff")
    if not ruff.exists():
        pytest.skip("ruff is not installed beside this interpreter")
    code = "\n".join(WRONG.values())
    command = [str(ruff), "check", "--no-cache", "--output-format=json", "--stdin-filename"]
    found = subprocess.run(
        [*command, "mesh/services/sample.py", "-"],
        input=code,
        cwd=ROOT.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(WRONG) - {row["code"] for row in json.loads(found.stdout)} == set()


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_package_is_locked_by_version_and_hash(name: str):
    text = (ROOT.parent / name).read_text("utf-8").replace("\\\n", " ")
    locked = [
        line for line in text.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    assert len(locked) > 20
    pinned = re.compile(r"[A-Za-z0-9._-]+==\S+( ; [^#]*?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    assert [line for line in locked if not pinned.fullmatch(line)] == []
