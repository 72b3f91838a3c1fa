"""Nothing that the documents allow or forbid makes the shop answer 5xx, late, or otherwise than they say."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.api_fuzz.corpus import send_corpus
from tests.api_fuzz.fuzz import Fuzz
from tests.support.running import RunningMesh

if TYPE_CHECKING:
    from collections.abc import Iterator

CASES = int(os.environ.get("MESH_API_CASES", "1000"))

pytestmark = [pytest.mark.e2e, pytest.mark.campaign, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningMesh]:
    mesh = RunningMesh(tmp_path_factory.mktemp("shop")).up()
    try:
        yield mesh
    finally:
        mesh.down()


def test_every_body_of_the_corpus_is_refused(shop: RunningMesh):
    sent, wrong = send_corpus(shop)
    assert wrong == []
    assert sent > 500


def test_every_answer_is_as_its_document_says(shop: RunningMesh):
    found = Fuzz(shop, 1).run(CASES)
    assert found.wrong == []
    assert found.cases + found.unsendable == CASES
    assert found.unsendable < CASES / 50
    operations = {label for label, _ in found.answered}
    assert len(found.reached) >= len(operations) * 0.75, sorted(operations - {*found.reached})
    assert 0.3 < found.negative / found.cases < 0.7


def _other_type(document: dict) -> None:
    for schema in document["components"]["schemas"].values():
        if "version" in schema.get("properties", {}):
            schema["properties"]["version"] = {"type": "string"}


def _other_limit(document: dict) -> None:
    for rows in document["paths"].values():
        for row in rows.values():
            for each in row["parameters"]:
                if each["name"] == "page_size":
                    each["schema"]["maximum"] = 1_000_000


@pytest.mark.parametrize(
    ("doctor", "complaint"),
    [(_other_type, "JsonSchemaError"), (_other_limit, "what fits the schema is refused")],
)
def test_a_document_that_says_otherwise_is_seen(shop: RunningMesh, doctor, complaint: str):
    found = Fuzz(shop, 2, doctor).run(250)
    assert complaint in "\n".join(found.wrong)
