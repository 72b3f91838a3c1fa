"""What one has read already: tags of answers, and changes that are for those who saw the newest."""

from __future__ import annotations

import pytest

from mesh.errors import InvalidInput, PreconditionFailed, Refused
from mesh.framework.conditional import check_match, required_match
from mesh.framework.problems import status_of
from tests.framework.server import served

LABEL = "/labels/a"


@pytest.fixture
async def server(tmp_path):
    async with served(tmp_path) as found:
        yield found


async def test_answer_without_a_version_has_the_tag_of_its_bytes(server):
    first = await server.ask("GET", "/labels")
    tag = first.headers["ETag"]
    again = await server.ask("GET", "/labels", headers={"If-None-Match": tag})
    assert (again.status, again.raw) == (304, b"")
    server.shelf.labels = 2
    after = await server.ask("GET", "/labels", headers={"If-None-Match": tag})
    assert after.status == 200
    assert after.headers["ETag"] != tag


async def test_change_asks_which_version_was_read(server):
    body = {"title": "new"}
    missing = await server.ask("PATCH", LABEL, body)
    assert (missing.status, missing.json["code"]) == (428, "precondition-required")
    malformed = await server.ask("PATCH", LABEL, body, {"If-Match": "1"})
    assert (malformed.status, malformed.json["code"]) == (400, "if-match")
    older = await server.ask("PATCH", LABEL, body, {"If-Match": '"0"'})
    assert (older.status, older.json["version"]) == (412, 1)
    assert server.shelf.titles == []
    changed = await server.ask("PATCH", LABEL, body, {"If-Match": '"1"'})
    assert (changed.status, changed.headers["ETag"]) == (200, '"2"')
    anyone = await server.ask("PATCH", LABEL, body, {"If-Match": "*"})
    assert (anyone.status, server.shelf.titles) == (200, ["new", "new"])


@pytest.mark.parametrize(
    "header", ["", "3", '"3', '3"', '"3" "4"', '"3",', '*, "3"', '"\x00"', '"1",' * 30 + '"1"']
)
def test_match_is_refused_when_malformed(header):
    with pytest.raises(InvalidInput):
        required_match(header)


def test_match_is_found_among_several():
    wanted = required_match('W/"2", "3" ')
    check_match(wanted, 2)
    check_match(wanted, 3)
    with pytest.raises(PreconditionFailed) as refused:
        check_match(wanted, 4)
    assert refused.value.facts == {"version": 4}


def test_match_needs_of_a_longer_tag_the_version_alone():
    check_match(required_match('"3.17"'), 3)
    with pytest.raises(PreconditionFailed):
        check_match(required_match('"17.3"'), 3)


def test_match_is_asked_for_with_its_own_status():
    with pytest.raises(Refused) as refused:
        required_match(None)
    assert status_of(refused.value) == 428
