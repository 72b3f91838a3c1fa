from __future__ import annotations

import json

import pytest

SERVICE = """\
import os
from msgspec import Struct
from mesh.framework import ANYONE, Call, Operation, Service
print("noise")
{before}
class Ask(Struct, frozen=True):
    id: str
class Got(Struct, frozen=True):
    {reads}: str
ASK = Call("product", "GET /products/{{id}}", Ask, Got)
async def act(ctx, request):
    "Do it."
service = Service(name="own", summary="Ours.", asks=(ASK,), operations=(
    Operation("act", "POST /acts", act, Ask, Got, allow=ANYONE, example=Ask("a")),))
"""

CONFIG = """\
bus: zmq://
services:
  product: {module: mesh.services.product}
  own: {module: OWN, calls: [product], environment: {WORD: said}}
"""


@pytest.fixture
def own(mesh, here, request):
    """A service of one's own beside product; each in a module of a name of its own."""
    name = f"own_{abs(hash(request.node.name))}"
    (here / "mesh.yaml").write_text(CONFIG.replace("OWN", name))

    def write(*, before: str = "", reads: str = "name", text: str | None = None) -> None:
        shown = SERVICE.format(before=before, reads=reads) if text is None else text
        (here / f"{name}.py").write_text(shown)

    write()
    return write


def test_documents_are_printed_with_nothing_running(mesh, own):
    done = mesh("schema", "openapi", "own")
    assert done.code == 0
    assert list(json.loads(done.out)["paths"]) == ["/acts"]
    assert done.err == "noise\n", "what a module prints is no part of the document"
    both = json.loads(mesh("schema", "asyncapi", "--json").out)
    assert {name: each["info"]["title"] for name, each in both.items()} == {
        "product": "product",
        "own": "own",
    }


def test_a_module_is_imported_with_its_own_variables(mesh, own):
    own(before="assert os.environ['WORD'] == 'said'")
    assert mesh("schema", "openapi", "own").code == 0


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("import nowhere_at_all", "No module named 'nowhere_at_all'"),
        ("def (", "invalid syntax"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "has no `service = Service(…)`"),
    ],
)
def test_a_broken_module_is_a_clear_error(mesh, own, text, why):
    own(text=text)
    done = mesh("schema", "openapi", "own")
    assert (done.code, done.out) == (1, "")
    assert why in done.err
    assert "Traceback" not in done.err


def test_check_names_what_is_read_and_not_written(mesh, own):
    assert mesh("schema", "check").code == 0
    assert json.loads(mesh("schema", "check", "--json").out)["ok"] is True


def test_check_fails_with_the_place(mesh, own):
    own(reads="title")
    done = mesh("schema", "check")
    assert done.code == 7
    assert "own asks product GET /products/{id}: read.title: is not there" in done.err
    told = json.loads(mesh("schema", "check", "--json").out)
    assert (told["ok"], len(told["disagreements"])) == (False, 1)


def test_diff_names_what_breaks(mesh, own, here):
    old = json.loads(mesh("schema", "openapi", "own", "--json").out)
    file = here / "old.json"
    file.write_text(json.dumps(old))
    assert mesh("schema", "diff", "old.json").code == 0
    old["paths"]["/gone"] = {"get": {"operationId": "gone"}}
    file.write_text(json.dumps(old))
    done = mesh("schema", "diff", "old.json")
    assert (done.code, done.out) == (7, "breaks  gone: GET /gone is gone\n")
    assert json.loads(mesh("schema", "diff", "old.json", "old.json", "--json").out)["ok"] is True


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 1),
        ("[" * 100_000, 1),
        ("[]", 2),
        ("{}", 2),
        ('{"info": {"title": "own"}}', 1),
        ('{"openapi": 1, "info": {"title": "nobody"}}', 2),
    ],
)
def test_diff_refuses_what_is_no_document(mesh, own, here, text, code):
    (here / "old.json").write_text(text)
    done = mesh("schema", "diff", "old.json")
    assert done.code == code
    assert done.err.splitlines()[-2 if code == 2 else -1].startswith("error: ")


def test_diff_of_a_file_that_is_not_there(mesh, here):
    done = mesh("schema", "diff", "nowhere.json")
    assert (done.code, done.err) == (
        1,
        "error: nowhere.json: no such file or directory  [invalid-input]\n",
    )


def test_the_schema_of_the_configuration_needs_no_configuration(mesh, here):
    (here / "mesh.yaml").write_text("broken: [")
    assert json.loads(mesh("schema", "config").out)["title"] == "mesh.yaml"


def test_a_program_without_a_table_is_asked_where_it_runs(mesh, here):
    (here / "mesh.yaml").write_text("services: {window: {command: [cat]}}")
    assert mesh("schema", "openapi", "window").code == 3
    assert json.loads(mesh("schema", "openapi", "--json").out) == {}
