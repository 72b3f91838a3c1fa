"""From the words of `mesh call` and an OpenAPI document to a request; and who sends it."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mesh.commands import caller, describe, http
from mesh.commands.caller import Seeded, Speaker, Speakers, seeded_users
from mesh.commands.operations import Access, Document
from mesh.commands.request import build, parse_data
from mesh.errors import NotFound, ServiceUnavailable, WrongUsage

ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string"},
    "example": "ord_1",
}
MATCH = {"name": "If-Match", "in": "header", "required": True, "schema": {"type": "string"}}
KEY = {"name": "Idempotency-Key", "in": "header", "schema": {"type": "string"}}
LINES = {
    "type": "array",
    "minItems": 1,
    "maxItems": 50,
    "items": {"$ref": "#/components/schemas/Line"},
}
ORDER = {
    "type": "object",
    "required": ["lines"],
    "properties": {
        "lines": LINES,
        "note": {"anyOf": [{"type": "string", "maxLength": 20}, {"type": "null"}], "default": None},
        "urgent": {"type": "boolean", "default": False},
        "expected": {"anyOf": [{"type": "integer"}, {"type": "null"}]},
        "weight": {"type": "number"},
        "on_shortage": {"enum": ["backorder", "reject"]},
    },
}
EXAMPLE = {"lines": [{"sku": "A", "quantity": 1}]}
LINE = {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}, "quantity": {"type": "integer", "minimum": 1}}}  # fmt: skip


def body(schema, **more):
    return {"content": {"application/json": {"schema": schema, **more}}}


DOCUMENT = Document(
    {
        "openapi": "3.1.0",
        "paths": {
            "/orders": {
                "post": {
                    "operationId": "create",
                    "summary": "Take an order.",
                    "parameters": [KEY],
                    "requestBody": body({"$ref": "#/components/schemas/Order"}, example=EXAMPLE),
                    "security": [{"user": ["customer"]}],
                },
                "get": {
                    "operationId": "list",
                    "parameters": [
                        {"name": "status", "in": "query", "schema": {"type": "string"}},
                        {"name": "page_size", "in": "query", "schema": {"type": "integer"}},
                    ],
                    "security": [{"user": []}],
                },
            },
            "/orders/{id}": {
                "parameters": [ID],
                "get": {"operationId": "get", "security": [{"user": ["customer"]}, {"user": ["staff"]}]},
            },
            "/orders/{id}/cancel": {
                "post": {
                    "operationId": "cancel",
                    "parameters": [ID, MATCH],
                    "requestBody": body({"type": "object", "properties": {"reason": {"type": "string"}}}, example={}),
                    "security": [{"operator": []}],
                },
            },
            "/holds/{id}": {
                "put": {"operationId": "hold", "parameters": [ID], "security": [{"service": ["order"]}]},
                "get": {"operationId": "look", "parameters": [ID], "security": [{}]},
            },
            "/anything": {
                "post": {
                    "operationId": "anything",
                    "requestBody": body({"type": "object", "additionalProperties": True}),
                }
            },
        },
        "components": {"schemas": {"Order": ORDER, "Line": LINE}},
    }
)  # fmt: skip
OPERATIONS = DOCUMENT.operations


def sent(operation, *words, data=None):
    return build(DOCUMENT, OPERATIONS[operation], words, data)


def test_the_document_is_read():
    assert list(OPERATIONS) == ["create", "list", "get", "cancel", "hold", "look", "anything"]
    create = OPERATIONS["create"]
    assert (create.method, create.path, create.summary) == ("POST", "/orders", "Take an order.")
    assert create.takes_key
    assert not create.needs_match
    assert OPERATIONS["cancel"].needs_match
    assert create.takes_body
    assert not OPERATIONS["list"].takes_body
    assert [(field.name, field.where, field.required) for field in OPERATIONS["cancel"].fields] == [
        ("id", "path", True),
        ("reason", "body", False),
    ]


@pytest.mark.parametrize(
    ("operation", "who"),
    [
        ("create", "customer"),
        ("list", "any user"),
        ("get", "customer, staff"),
        ("cancel", "operator"),
        ("hold", "service order"),
        ("look", "anyone"),
        ("anything", "anyone"),
    ],
)
def test_the_document_says_who_may_call(operation, who):
    assert str(OPERATIONS[operation].access) == who


def test_without_a_field_the_example_is_sent():
    request = sent("create")
    assert (request.method, request.target, request.body) == ("POST", "/orders", EXAMPLE)
    assert request.from_example
    assert sent("get").target == "/orders/ord_1"
    assert sent("cancel").body == {}


@pytest.mark.parametrize(
    ("word", "value"),
    [
        ("note=2", "2"),
        ("note=null", "null"),
        ("note=", ""),
        ("note=a=b", "a=b"),
        ("note:=null", None),
        ("urgent=true", True),
        ("expected=12", 12),
        ("expected=null", None),
        ("weight=1.5", 1.5),
        ("weight=2", 2.0),
        ("on_shortage=reject", "reject"),
        ('lines:=[{"sku":"A"}]', [{"sku": "A"}]),
        ('urgent:="yes"', "yes"),
    ],
)
def test_a_field_has_the_type_of_the_document(word, value):
    (found,) = sent("create", word).body.values()
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("operation", "words", "message"),
    [
        ("create", ["lnes:=[]"], "create has no field `lnes`, did you mean `lines`?"),
        ("create", ["nonsense"], "`nonsense` is no FIELD=VALUE or FIELD:=JSON"),
        ("create", ["=x"], "`=x` is no FIELD=VALUE or FIELD:=JSON"),
        ("create", ["lines:=[1,"], "the value of `lines` is not JSON: Expecting value: line 1 column 4 (char 3)"),
        ("create", ["lines=A"], "`lines` is of type array, which plain text cannot say"),
        ("create", ["expected=many"], "`expected` must be of type integer, not `many`"),
        ("create", ["urgent=yes"], "`urgent` must be of type boolean, not `yes`"),
        ("create", ["note=a", "note=b"], "`note` is given twice"),
        ("cancel", ["reason=x"], "cancel needs `id`"),
        ("get", ["page=1"], "get has no field `page`"),
    ],
)  # fmt: skip
def test_a_wrong_word_is_refused_before_anything_is_sent(operation, words, message):
    with pytest.raises(WrongUsage) as raised:
        sent(operation, *words)
    assert str(raised.value) == message


def test_path_query_and_body_are_told_apart():
    request = sent("cancel", "id=ord/../é", "reason=why")
    assert (request.target, request.body) == ("/orders/ord%2F..%2F%C3%A9/cancel", {"reason": "why"})
    assert (
        sent("list", "page_size=2", "status=a b&c").target == "/orders?status=a+b%26c&page_size=2"
    )
    assert sent("list").target == "/orders"


def test_fields_are_laid_over_data():
    request = sent("create", "note=mine", data={"note": "theirs", "lines": [], "unknown": 1})
    assert request.body == {"note": "mine", "lines": [], "unknown": 1}
    assert sent("cancel", data={"id": "ord_2", "reason": "x"}).target == "/orders/ord_2/cancel"
    assert sent("anything", data=[1, 2]).body == [1, 2]
    with pytest.raises(WrongUsage, match="only if that is a JSON object"):
        sent("anything", "a=1", data=[1])
    with pytest.raises(WrongUsage, match="takes no body"):
        sent("list", data={"other": 1})


def test_members_nobody_named_are_taken_where_the_document_lets_them():
    assert sent("anything", "a=1", "b:=2").body == {"a": "1", "b": 2}


def test_data_that_is_not_json_is_refused():
    with pytest.raises(WrongUsage, match="the value of -d is not JSON"):
        parse_data("{")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["paths", "/x/{id}", "get", "post", "operationId", "parameters", "name", "in",
                         "schema", "$ref", "anyOf", "properties", "requestBody", "content",
                         "application/json", "security", "user", "example", "type", "items"]),
        inner, max_size=5),
    max_leaves=40,
)  # fmt: skip


@given(JSON)
def test_a_document_of_any_shape_is_survived(raw):
    document = Document({"paths": {"/x": {"get": raw}}, "components": raw})
    for operation in document.operations.values():
        str(operation.access)
        describe.operation("x", document, operation)


def test_references_in_a_circle_end():
    loop = {"$ref": "#/components/schemas/Loop"}
    document = Document({"components": {"schemas": {"Loop": loop}}})
    assert document.resolve(loop) == {}
    assert document.types(loop) == set()


def test_help_lists_nested_fields_with_types_and_limits(capsys):
    describe.operation("order", DOCUMENT, OPERATIONS["create"])
    out = capsys.readouterr().out
    rows = {
        line.split()[0]: line.split(None, 1)[1] for line in out.splitlines() if " body " in line
    }
    assert " ".join(rows["lines"].split()) == "body list of object yes 1 to 50 items"
    assert " ".join(rows["lines[].quantity"].split()) == "body integer ≥ 1"
    assert " ".join(rows["note"].split()) == "body string ≤ 20 characters"
    assert " ".join(rows["on_shortage"].split()) == "body string one of backorder, reject"
    assert " ".join(rows["urgent"].split()) == "body boolean default false"
    assert '"quantity": 1' in out


USERS = [Seeded("alice", ("customer",)), Seeded("bob", ("customer",)), Seeded("sam", ("staff",))]


def speakers(tokens, users=USERS):
    def token(subject, audience):
        tokens.append((subject, audience))
        return f"token-of-{subject}"

    urls = {"order": "http://order", "user": "http://user"}
    return Speakers(token, lambda _: DOCUMENT, urls, users, 1.0)


@pytest.mark.parametrize(
    ("operation", "name", "speaker", "tokens"),
    [
        ("look", None, Speaker(), []),
        ("cancel", None, Speaker("operator", "token-of-operator"), [("operator", "product")]),
        ("hold", "order", Speaker("order", "token-of-order"), [("order", "product")]),
        ("look", "operator", Speaker("operator", "token-of-operator"), [("operator", "product")]),
    ],
)
def test_services_and_the_operator_speak_in_their_own_name(operation, name, speaker, tokens):
    asked = []
    assert speakers(asked).choose("product", OPERATIONS[operation], name) == speaker
    assert asked == tokens


def test_what_is_for_services_is_not_called_without_a_name():
    with pytest.raises(WrongUsage) as raised:
        speakers([]).choose("product", OPERATIONS["hold"], None)
    assert raised.value.hint == "mesh call product hold --as order …"


def test_nobody_seeded_may_call():
    with pytest.raises(WrongUsage, match=r"no seeded user may call order get \(it is for customer"):
        speakers([], users=[Seeded("ada", ("admin",))]).choose("order", OPERATIONS["get"], None)


ACT_AS = Document(
    {"paths": {"/sessions/act-as": {"post": {
        "operationId": "act-as", "security": [{"operator": []}],
        "requestBody": body({"type": "object", "properties": {"login": {"type": "string"}}}),
    }}}}
)  # fmt: skip


@pytest.mark.parametrize(
    ("operation", "name", "login"),
    [("create", None, "alice"), ("list", None, "alice"), ("create", "bob", "bob"), ("look", "bob", "bob")],
)  # fmt: skip
def test_a_user_is_acted_as_with_the_operators_token(monkeypatch, operation, name, login):
    calls = []

    def ask(base, method, target, **more):
        calls.append((base, method, target, more["body"], more["headers"]["Authorization"]))
        return http.Answer(201, {}, json.dumps({"access_token": "t"}).encode(), 1.0)

    monkeypatch.setattr(caller.http, "ask", ask)
    tokens = []
    chosen = speakers(tokens)
    chosen = Speakers(chosen.token, lambda _: ACT_AS, chosen.urls, USERS, 1.0)
    assert chosen.choose("order", OPERATIONS[operation], name) == Speaker(login, "t")
    assert calls == [
        ("http://user", "POST", "/sessions/act-as", {"login": login}, "Bearer token-of-operator")
    ]
    assert tokens == [("operator", "user")]


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (503, ServiceUnavailable)])
def test_a_user_who_cannot_be_acted_as_is_told(monkeypatch, status, error):
    monkeypatch.setattr(caller.http, "ask", lambda *_, **__: http.Answer(status, {}, b"{}", 1.0))
    chosen = speakers([])
    chosen = Speakers(chosen.token, lambda _: ACT_AS, chosen.urls, USERS, 1.0)
    with pytest.raises(error):
        chosen.choose("order", OPERATIONS["create"], "alcie")


def test_seeded_users_come_from_the_seeds_of_the_running_mesh(tmp_path):
    users = [
        {"id": "usr_1", "email": "alice@shop.example", "roles": ["customer"]},
        {"email": 7},
        "nonsense",
        {"id": "usr_2", "email": "sam@shop.example"},
    ]
    (tmp_path / "user.json").write_text(json.dumps({"users": users}))
    (tmp_path / "product.json").write_text(json.dumps({"products": []}))
    (tmp_path / "broken.json").write_text("{")
    assert seeded_users(tmp_path) == [
        Seeded("alice", ("customer",), "usr_1"),
        Seeded("sam", (), "usr_2"),
    ]
    assert seeded_users(tmp_path / "nowhere") == []


def test_an_empty_security_list_lets_anyone_in():
    open_document = Document({"security": [], "paths": {"/": {"get": {"operationId": "x"}}}})
    assert open_document.operations["x"].access == Access(True, (), False, ())


@pytest.mark.parametrize(
    ("target", "who"),
    [("/users/usr_6", "nora"), ("/users/usr_66", "alice"), ("/orders?x=/usr_6", "alice")],
)
def test_what_belongs_to_somebody_is_asked_for_by_that_one(monkeypatch, target, who):
    people = [Seeded("alice", ("customer",), "usr_1"), Seeded("nora", ("customer",), "usr_6")]
    answer = http.Answer(201, {}, b'{"access_token": "t"}', 1.0)
    monkeypatch.setattr(caller.http, "ask", lambda *_, **__: answer)
    urls = {"order": "http://order", "user": "http://user"}
    chosen = Speakers(lambda *_: "operator", lambda _: ACT_AS, urls, people, 1.0)
    assert chosen.choose("order", OPERATIONS["list"], None, target).said == who
