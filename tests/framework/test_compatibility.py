"""Each kind of break is seen by the place it is at; what only adds is let pass."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

import pytest
from msgspec import Meta, Struct

from mesh.errors import InvalidInput
from mesh.framework import ANYONE, Operation, Service, Tells, asyncapi, openapi, roles, services
from mesh.framework.compatibility import breaks


class Line(Struct, frozen=True, forbid_unknown_fields=True):
    sku: str
    quantity: Annotated[int, Meta(ge=1, le=10)]


class Take(Struct, frozen=True, forbid_unknown_fields=True):
    id: str
    lines: tuple[Line, ...]
    mode: Literal["fast", "slow"] = "fast"
    note: Annotated[str, Meta(max_length=40)] | None = None


class Give(Struct, frozen=True):
    id: str
    status: Literal["open", "done"]
    total: int
    lines: tuple[Line, ...]
    note: str | None


class Happened(Struct, frozen=True):
    id: str
    count: Annotated[int, Meta(ge=0)]


async def act(ctx, request):
    """Do it."""


EXAMPLE = Take("a", ())
ACT = Operation(
    "act", "POST /things/{id}", act, Take, Give, allow=roles("staff", "admin"), example=EXAMPLE
)
SERVICE = Service(
    name="shelf",
    summary="Things.",
    operations=(ACT,),
    tells=(Tells("shelf.happened", Happened, key="id"),),
)


def like(original: type, **changes) -> type:
    """The same message with members added, changed, or (None) taken away."""
    from msgspec import NODEFAULT, defstruct, structs

    fields = {
        each.name: (each.name, each.type)
        if each.default is NODEFAULT
        else (each.name, each.type, each.default)
        for each in structs.fields(original)
    }
    for name, change in changes.items():
        fields.pop(name, None)
        if change is not None:
            fields[name] = (name, *change) if isinstance(change, tuple) else (name, change)
    strict = original.__struct_config__.forbid_unknown_fields
    ordered = sorted(fields.values(), key=len)
    return defstruct(
        original.__name__, ordered, module="later", frozen=True, forbid_unknown_fields=strict
    )


def changed(**changes) -> list[str]:
    after = replace(SERVICE, operations=(replace(ACT, **changes),))
    return breaks(openapi.document(SERVICE, "1"), openapi.document(after, "2"))


def told(*rows: Tells) -> list[str]:
    after = replace(SERVICE, tells=rows)
    return breaks(asyncapi.document(SERVICE, "1"), asyncapi.document(after, "2"))


WIDE = Annotated[int, Meta(ge=1, le=99)]
NARROW = Annotated[int, Meta(ge=1, le=5)]

INPUT = {
    "a required member more": ({"more": int}, "body.more: is not there"),
    "a member less": ({"note": None}, "body.note: is not accepted"),
    "required, was optional": ({"mode": Literal["fast", "slow"]}, "body.mode: is not always there"),
    "another type": ({"note": (int | None, None)}, "body.note: string is read as integer"),
    "null no more": ({"note": (str, "")}, "body.note: null is read as string"),
    "a value less": (
        {"mode": (Literal["fast"], "fast")},
        "body.mode: slow is written, not among fast",
    ),
    "a longer minimum": (
        {"note": (Annotated[str, Meta(min_length=1, max_length=40)] | None, None)},
        "body.note: minLength none is read with minLength 1",
    ),
    "a shorter maximum": (
        {"note": (Annotated[str, Meta(max_length=20)] | None, None)},
        "body.note: maxLength 40 is read with maxLength 20",
    ),
    "a form": (
        {"note": (Annotated[str, Meta(max_length=40, pattern="^a")] | None, None)},
        "body.note: pattern none is read with pattern ^a",
    ),
    "a lower maximum deep inside": (
        {"lines": tuple[like(Line, quantity=NARROW), ...]},
        "body.lines[].quantity: maximum 10 is read with maximum 5",
    ),
    "a minimum of zero": (
        {"lines": tuple[like(Line, quantity=Annotated[int, Meta(ge=0, le=10)]), ...]},
        None,
    ),
    "an optional member more": ({"more": (int, 1)}, None),
    "optional, was required": ({"lines": (tuple[Line, ...], ())}, None),
    "a value more": ({"mode": (Literal["fast", "slow", "still"], "fast")}, None),
    "a higher maximum": ({"lines": tuple[like(Line, quantity=WIDE), ...]}, None),
    "a number, was an integer": ({"note": (str | float | None, None)}, None),
}


@pytest.mark.parametrize("case", INPUT)
def test_breaks_sees_what_is_taken_no_more(case: str):
    changes, complaint = INPUT[case]
    found = changed(takes=like(Take, **changes))
    assert found == ([f"act takes.{complaint}"] if complaint else [])


ANSWER = {
    "a member less": ({"total": None}, ["total: is not there"]),
    "a member renamed": ({"total": None, "sum": int}, ["total: is not there"]),
    "another type": ({"total": str}, ["total: string is read as integer"]),
    "null, was always there": ({"total": int | None}, ["total: null is read as integer"]),
    "optional, was required": ({"total": (int, 0)}, ["total: is not always there"]),
    "a value more": (
        {"status": Literal["open", "done", "lost"]},
        ["status: lost is written, not among done, open"],
    ),
    "any text": ({"status": str}, ["status: any string is written, not among done, open"]),
    "a wider limit deep inside": (
        {"lines": tuple[like(Line, quantity=WIDE), ...]},
        ["lines[].quantity: maximum 99 is read with maximum 10"],
    ),
    "a member more": ({"more": int}, []),
    "a value less": ({"status": Literal["open"]}, []),
    "never null": ({"note": str}, []),
    "a narrower limit": ({"lines": tuple[like(Line, quantity=NARROW), ...]}, []),
}


@pytest.mark.parametrize("case", ANSWER)
def test_breaks_sees_what_is_answered_no_more(case: str):
    changes, complaints = ANSWER[case]
    found = changed(gives=like(Give, **changes))
    assert found == [f"act 200.{complaint}" for complaint in complaints]


@pytest.mark.parametrize(
    ("changes", "complaints"),
    [
        ({"route": "POST /thing/{id}"}, ["act: POST /things/{id} is gone"]),
        ({"route": "PUT /things/{id}"}, ["act: POST /things/{id} is gone"]),
        ({"name": "do"}, ["act: is called do now"]),
        ({"status": 201}, ["act: status 200 is gone"]),
        ({"gives": type(None)}, ["act 200: no answer of application/json any more"]),
        ({"key": "required"}, ["act takes.header Idempotency-Key: is not there"]),
        ({"key": "optional"}, []),
        ({"may_be_accepted": True}, []),
        ({"allow": roles("admin")}, ["act: does not let in user staff any more"]),
        (
            {"allow": services("order")},
            [
                "act: does not let in user staff any more",
                "act: does not let in user admin any more",
            ],
        ),
        ({"allow": roles("user")}, []),
        ({"allow": ANYONE}, []),
    ],
)
def test_breaks_sees_what_an_operation_is_no_more(changes, complaints):
    assert changed(**changes) == complaints


def test_who_was_let_in_without_a_name_is_let_in_no_more():
    before = replace(SERVICE, operations=(replace(ACT, allow=ANYONE),))
    found = breaks(openapi.document(before, "1"), openapi.document(SERVICE, "2"))
    assert found == ["act: does not let in anyone any more"]


@pytest.mark.parametrize(
    ("rows", "complaints"),
    [
        ((), ["shelf.happened: is not told any more"]),
        (
            (Tells("shelf.happened", like(Happened, count=None), key="id"),),
            ["shelf.happened.data.count: is not there"],
        ),
        (
            (Tells("shelf.happened", like(Happened, count=int), key="id"),),
            ["shelf.happened.data.count: minimum none is read with minimum 0"],
        ),
        ((Tells("shelf.happened", like(Happened, more=int), key="id"),), []),
        ((*SERVICE.tells, Tells("shelf.more", Happened, key="id")), []),
    ],
)
def test_breaks_sees_what_is_told_no_more(rows, complaints):
    assert told(*rows) == complaints


def test_breaks_follows_a_type_within_itself():
    tree = {"anyOf": [{"type": "null"}, {"$ref": "#/components/schemas/Tree"}]}
    document = openapi.document(SERVICE, "1")
    document["components"]["schemas"]["Give"]["properties"]["tree"] = tree
    document["components"]["schemas"]["Tree"] = {"type": "object", "properties": {"left": tree}}
    assert breaks(document, document) == []


@pytest.mark.parametrize("other", [None, [], {}, {"openapi": "3.1.0"}])
def test_breaks_refuses_documents_of_different_kinds(other):
    with pytest.raises(InvalidInput):
        breaks(asyncapi.document(SERVICE, "1"), other)
