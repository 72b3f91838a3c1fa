"""A configuration file as the structs of `mesh.config`."""

from __future__ import annotations

from textwrap import dedent

import pytest

from mesh.config import Config, Dependency, Healthcheck, RestartPolicy, Sandbox, WatchRule
from mesh.configs import load
from mesh.errors import ConfigInvalid

WHOLE = """
name: shop
bus: zmq://
x-anything: {goes: [here]}
services:
  auth:
    module: mesh.services.auth
    port: 7001
    seed: {users: [{id: usr_1, roles: [customer, staff], active: true, visits: 3}]}
  order:
    module: mesh.services.order
    calls: [auth]
    depends_on:
      bus: {condition: service_healthy}
      auth: {required: false}
    environment: {LEVEL: debug, RETRIES: 010, EMPTY: ""}
    restart: on-failure:3
    stop_signal: INT
    stop_grace_period: 1m30s
    healthcheck: {test: http /readyz, interval: 500ms, timeout: 2s, retries: 5, start_period: 1s}
    sandbox: off
    develop: {watch: [{path: src, action: restart}]}
  web:
    command: [node, server.js, --port, 80]
    depends_on: [order]
    environment: [HOST_NAME=box, HOME]
    restart: no
"""


def read(tmp_path, text, env=None) -> Config:
    (tmp_path / "mesh.yaml").write_text(dedent(text))
    return load(None, env=env or {}, cwd=tmp_path)


def test_load_reads_every_key(tmp_path):
    config = read(tmp_path, WHOLE, {"HOME": "/root"})
    auth, order, web = config.services.values()
    assert (config.name, config.bus) == ("shop", "zmq://")
    assert (config.root, config.file) == (str(tmp_path), str(tmp_path / "mesh.yaml"))
    assert (auth.module, auth.port, auth.socket) == ("mesh.services.auth", 7001, "inherit")
    assert auth.seed == {
        "users": [{"id": "usr_1", "roles": ["customer", "staff"], "active": True, "visits": 3}]
    }
    assert auth.restart == RestartPolicy("on-failure", 5)
    assert order.calls == ("auth",)
    assert order.depends_on == {
        "bus": Dependency("service_healthy"),
        "auth": Dependency("service_started", required=False),
    }
    assert order.environment == {"LEVEL": "debug", "RETRIES": "010", "EMPTY": ""}
    assert order.restart == RestartPolicy("on-failure", 3)
    assert order.stop_signal == "SIGINT"
    assert order.stop_grace_period_s == 90.0
    assert order.healthcheck == Healthcheck(("http", "/readyz"), 0.5, 2.0, 5, 1.0)
    assert order.sandbox == Sandbox("off")
    assert order.watch == (WatchRule("src"),)
    assert web.command == ("node", "server.js", "--port", "80")
    assert web.socket == "own"
    assert web.depends_on == {"order": Dependency()}
    assert web.environment == {"HOST_NAME": "box", "HOME": "/root"}
    assert web.restart == RestartPolicy("no")


@pytest.mark.parametrize(
    ("written", "test"),
    [
        ("http /readyz", ("http", "/readyz")),
        ("tcp", ("tcp",)),
        ("curl -f localhost", ("CMD-SHELL", "curl -f localhost")),
        ("[http, /]", ("http", "/")),
        ("[tcp]", ("tcp",)),
        ("[CMD, pg_isready, -q]", ("CMD", "pg_isready", "-q")),
        ("[CMD-SHELL, exit 0]", ("CMD-SHELL", "exit 0")),
        ("log listening on .*", ("log", "listening on .*")),
        ("[log, 'listening, on']", ("log", "listening, on")),
        ("notify", ("notify",)),
        ("[notify]", ("notify",)),
        ("NONE", ("NONE",)),
    ],
)
def test_healthcheck_takes_every_form_of_test(tmp_path, written, test):
    config = read(
        tmp_path, f"services: {{a: {{command: sleep 1, healthcheck: {{test: {written}}}}}}}"
    )
    assert config.services["a"].healthcheck == Healthcheck(test)


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("yes", "yes"),
        ("on", "on"),
        ("no", "no"),
        ("12:30:00", "12:30:00"),
        ("2001-12-14", "2001-12-14"),
        ("010", 10),
        ("0o10", 8),
        ("0x1F", 31),
        ("1e3", 1000.0),
        (".5", 0.5),
        ("-7", -7),
        ("1_000", "1_000"),
        ("0b11", "0b11"),
        (".inf", ".inf"),
        ("~", None),
        ("null", None),
        ("", None),
        ("True", True),
        ("FALSE", False),
        ("tRue", "tRue"),
        ("'010'", "010"),
        ('"true"', "true"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
    ],
)
def test_scalars_follow_the_yaml_core_schema(tmp_path, written, value):
    config = read(
        tmp_path,
        f"""
        services:
          a:
            command: sleep 1
            seed:
              value: {written}
        """,
    )
    assert config.services["a"].seed == {"value": value}


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("${SET}", "here"),
        ("a${SET}b${SET}", "ahereb" + "here"),
        ("${SET:-other}", "here"),
        ("${UNSET:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${UNSET:-}", None),
        ("$$SET", "$SET"),
        ("$${SET}", "${SET}"),
        ("'$$argon2id$$v=19'", "$argon2id$v=19"),
        ("${NUMBER}", 42),
        ("'${NUMBER}'", "42"),
    ],
)
def test_variables_are_filled_in(tmp_path, written, value):
    env = {"SET": "here", "EMPTY": "", "NUMBER": "42"}
    config = read(
        tmp_path, f"services:\n  a:\n    command: sleep 1\n    seed:\n      value: {written}\n", env
    )
    assert config.services["a"].seed == {"value": value}


def test_a_variable_with_yaml_in_it_stays_one_value(tmp_path):
    text = "services: {a: {command: sleep 1, environment: {X: '${EVIL}'}}}"
    config = read(tmp_path, text, {"EVIL": "x}, command: [rm, -rf, /"})
    assert config.services["a"].environment == {"X": "x}, command: [rm, -rf, /"}


def test_anchors_are_followed(tmp_path):
    config = read(
        tmp_path,
        """
        x-check: &check {test: tcp, interval: 2s}
        services:
          a: {command: sleep 1, healthcheck: *check}
        """,
    )
    assert config.services["a"].healthcheck == Healthcheck(("tcp",), interval_s=2.0)


def test_an_env_file_is_checked_but_not_copied(tmp_path):
    (tmp_path / ".env").write_text("# a comment\nexport KEY='secret'\n\nOTHER=1 # why\n")
    config = read(tmp_path, "services: {a: {command: sleep 1, env_file: .env}}")
    assert config.services["a"].env_file == (".env",)
    assert config.services["a"].environment == {}


def test_the_name_is_the_folders_when_none_is_given(tmp_path):
    folder = tmp_path / "My Shop_2"
    folder.mkdir()
    assert read(folder, "services: {a: {command: sleep 1}}").name == "my-shop-2"


def test_complaints_name_the_file_as_seen_from_here(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "mesh.yaml").write_text("nothing: 1")
    with pytest.raises(ConfigInvalid) as raised:
        load(None, env={}, cwd=tmp_path)
    assert raised.value.complaints[0].startswith("configs/mesh.yaml:1:1: ")
