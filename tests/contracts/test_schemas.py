"""The documents of the shop's services are valid, and keep what the committed ones promise.

`MESH_SCHEMAS=write` writes what only adds; a break is refused then too, and taken down only with
`MESH_SCHEMAS=break`, which is a decision and belongs in the message of the commit.
"""

from __future__ import annotations

import base64
import hashlib
import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import tarfile
from pathlib import Path

import jsonschema
import pytest
import yaml

import mesh.services
from mesh import __version__, codec
from mesh.bus import cloud_event
from mesh.buses.contract import Event
from mesh.configs import reader
from mesh.framework import asyncapi, openapi
from mesh.framework.compatibility import breaks

ROOT = Path(mesh.services.__file__).parents[2]
FOLDER = ROOT / "docs" / "schemas"
NAMES = sorted(module.name for module in pkgutil.iter_modules(mesh.services.__path__))
WRITERS = {"openapi": openapi.document, "asyncapi": asyncapi.document}
DOCUMENTS = [(name, kind) for name in NAMES for kind in WRITERS]

SPECS = "@asyncapi/specs@6.11.1"
SPECS_SHA512 = (
    "A3WBLqAKGoJ2+6FWFtpjBlCQ1oFCcs4GxF7zsIGvNqp/klGUHjlA3aAcZ9XMMpLGE8zPeYDz2x9FmO6DSuKraQ=="
)
FETCH_S = 60


def document(name: str, kind: str) -> dict:
    table = importlib.import_module(f"mesh.services.{name}.service").service
    return json.loads(codec.encode(WRITERS[kind](table, __version__)))


def written(content: object) -> str:
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def accept(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")


@pytest.mark.parametrize(("name", "kind"), DOCUMENTS)
def test_the_document_keeps_what_the_committed_one_promises(name: str, kind: str):
    file, wish = FOLDER / f"{name}.{kind}.json", os.environ.get("MESH_SCHEMAS", "")
    now = written(document(name, kind))
    before = file.read_text("utf-8") if file.exists() else None
    if before == now:
        return
    broken = breaks(json.loads(before), json.loads(now)) if before is not None else []
    if wish == "break" or (wish == "write" and not broken):
        accept(file, now)
        return
    assert not broken, (
        f"{file.name}: others rely on what this breaks:\n  "
        + "\n  ".join(broken)
        + "\nkeep it, or take the break down with MESH_SCHEMAS=break and say why in the commit"
    )
    pytest.fail(f"{file.name} is older than the code, which only adds: MESH_SCHEMAS=write")


def test_nothing_is_committed_that_nobody_serves():
    assert {path.name for path in FOLDER.iterdir()} == {f"{n}.{kind}.json" for n, kind in DOCUMENTS}


@pytest.fixture(scope="session")
def official(tmp_path_factory: pytest.TempPathFactory):
    """AsyncAPI's own JSON Schema of its documents."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("npm is not installed, which fetches AsyncAPI's schema")
    folder = tmp_path_factory.mktemp("specs")
    command = [npm, "pack", SPECS, "--silent"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=FETCH_S)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"npm cannot fetch {SPECS}: {error}")
    (archive,) = folder.glob("*.tgz")
    assert base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode() == SPECS_SHA512
    with tarfile.open(archive) as files:
        schema = json.load(files.extractfile(f"package/schemas/{asyncapi.VERSION}.json"))
    return jsonschema.validators.validator_for(schema)(schema)


@pytest.mark.connected
@pytest.mark.parametrize("name", NAMES)
def test_asyncapi_documents_are_valid(name: str, official):
    whole = document(name, "asyncapi")
    assert [error.message for error in official.iter_errors(whole)] == []
    whole["operations"]["tell"] = {"action": "shout"}
    assert list(official.iter_errors(whole)), "it sees nothing at all"


@pytest.mark.parametrize("name", NAMES)
def test_an_event_as_it_is_sent_fits_its_declaration(name: str):
    """The envelope is written elsewhere: here the two meet."""
    whole = document(name, "asyncapi")
    trace = b'{"traceparent": "00-1", "correlation": "2", "cause": "req_3"}'
    for event, message in whole["components"]["messages"].items():
        stream = event.partition(".")[0]
        raw = Event(stream, 1, 7, 1, b"", b"", bytes(16), event, "key", 1, trace, b"{}")
        schema = {**message["payload"], "additionalProperties": False}
        schema["properties"] |= {"data": {"type": "object"}}
        jsonschema.validate(cloud_event(raw), schema)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**cloud_event(raw), "more": 1}, schema)


CONFIGS = ROOT / "configs"
CONFIG_SCHEMA = CONFIGS / "mesh.schema.json"


def test_the_schema_of_the_configuration_is_the_committed_one():
    now = written(reader.schema())
    if os.environ.get("MESH_SCHEMAS"):
        accept(CONFIG_SCHEMA, now)
    assert CONFIG_SCHEMA.read_text("utf-8") == now, "MESH_SCHEMAS=write"


@pytest.mark.parametrize("file", sorted(CONFIGS.glob("*.yaml")), ids=lambda file: file.name)
def test_each_shipped_configuration_names_its_schema_and_fits_it(file: Path):
    text = file.read_text("utf-8")
    assert text.startswith(f"# yaml-language-server: $schema={CONFIG_SCHEMA.name}\n")
    jsonschema.Draft7Validator(reader.schema()).validate(yaml.safe_load(text))


FITS = [
    {"port": 0},
    {"port": "${PORT:-7001}"},
    {"restart": "on-failure:7"},
    {"depends_on": ["bus"]},
    {"depends_on": {"bus": {"condition": "service_healthy", "required": False}}},
    {"environment": ["A=1", "B"]},
    {"environment": {"A": 1, "B": None}},
    {"env_file": ".env"},
    {"stop_grace_period": "1m30s"},
    {"healthcheck": {"test": ["tcp"], "interval": "500ms"}},
    {"healthcheck": {"disable": True}},
    {"develop": {"watch": [{"path": "src", "action": "restart"}]}},
    {"sandbox": "required"},
    {"sandbox": {"network": "peers", "read": ".", "write": ["."]}},
    {"x-anything": 1},
]
FITS_NOT = [
    {"sandbox": "on"},
    {"sandbox": {"network": "closed"}},
    {"sandbox": {"netwrok": "peers"}},
    {"port": 70_000},
    {"port": "7001"},
    {"prot": 1},
    {"restart": "maybe"},
    {"restart": "on-failure:0"},
    {"depends_on": {"bus": {"condition": "healthy"}}},
    {"calls": "auth"},
    {"environment": {"A": True}},
    {"stop_grace_period": 10},
    {"stop_grace_period": "10 s"},
    {"healthcheck": {"retries": 0}},
    {"healthcheck": {"tests": "tcp"}},
    {"develop": {"watch": [{"action": "restart"}]}},
    {"sandbox": "yes"},
    {"command": "x"},
]


def _read_and_fits(extra: dict, folder: Path) -> tuple[bool, bool]:
    """Whether our reader takes a service with this, and whether its schema does."""
    from mesh.configs.locate import Location
    from mesh.errors import ConfigInvalid

    body = {"bus": "zmq://", "services": {"a": {"module": "b", **extra}}}
    file = folder / "mesh.yaml"
    file.write_text(yaml.safe_dump(body))
    (folder / ".env").touch()
    fits = jsonschema.Draft7Validator(reader.schema()).is_valid(body)
    try:
        reader.read(Location(file, folder), env={}, cwd=folder)
    except ConfigInvalid:
        return False, fits
    return True, fits


@pytest.mark.parametrize("extra", FITS, ids=str)
def test_what_the_reader_takes_fits_the_schema(extra: dict, tmp_path: Path):
    assert _read_and_fits(extra, tmp_path) == (True, True)


@pytest.mark.parametrize("extra", FITS_NOT, ids=str)
def test_what_the_reader_refuses_does_not_fit_the_schema(extra: dict, tmp_path: Path):
    assert _read_and_fits(extra, tmp_path) == (False, False)


def _open_schemas(schema: object, place: str = "") -> list[str]:
    """Keys without a word about them, and mappings that take any key."""
    if not isinstance(schema, dict):
        return []
    found = [] if not place or "description" in schema else [place]
    for name, inner in schema.get("properties", {}).items():
        found += _open_schemas(inner, f"{place}.{name}")
    return found


def test_each_key_says_what_it_is_for():
    services = reader.schema()["properties"]["services"]["additionalProperties"]
    assert _open_schemas({"properties": services["properties"]}) == []
    assert _open_schemas({"properties": reader.schema()["properties"]}) == []
