"""Bodies that readers of JSON are known to trip over; every operation that takes one refuses each.

What trips: aiohttp's and the standard library's readers answer several of these with 500, take
others for numbers that no database holds, or read a document that its sender did not mean.
"""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING

from tests.api_fuzz.callers import SERVICES, Callers
from tests.api_fuzz.fuzz import LEAKS

if TYPE_CHECKING:
    from tests.support.running import RunningMesh

JSON = "application/json"


def spoiled(example: dict) -> dict[str, tuple[bytes, dict[str, str]]]:
    """The corpus for one documented example: name → body and headers."""
    good = json.dumps(example).encode()
    first = next(iter(example), None)
    rest = good[1:-1]
    comma = b"," if example else b""

    def beside(member: bytes) -> bytes:
        return b"{" + rest + comma + member + b"}"

    def instead(value: bytes) -> bytes:
        """The first member, with another value; a member nobody knows where there is none."""
        name = json.dumps(first or "x").encode()
        others = {key: each for key, each in example.items() if key != first}
        tail = json.dumps(others).encode()[1:-1]
        return b"{" + name + b":" + value + (b"," + tail if others else b"") + b"}"

    bodies = {
        "empty": b"",
        "blank": b" \n",
        "truncated": good[:-1],
        "truncated text": b'{"a": "b',
        "trailing comma": b"{" + rest + b",}" if example else b"{,}",
        "trailing garbage": good + b"x",
        "two documents": good + good,
        "comment": b"/**/" + good,
        "single quotes": b"{'a': 1}",
        "bare key": b"{a: 1}",
        "NaN": instead(b"NaN"),
        "Infinity": instead(b"Infinity"),
        "-Infinity": instead(b"-Infinity"),
        "1e400": instead(b"1e400"),
        "2^53 + 1": instead(b"9007199254740993"),
        "2^63": instead(b"9223372036854775808"),
        "-2^63 - 1": instead(b"-9223372036854775809"),
        "5,000 digits": instead(b"1" * 5_000),
        "leading zero": instead(b"01"),
        "plus sign": instead(b"+1"),
        "hexadecimal": instead(b"0x10"),
        "True": instead(b"True"),
        "NUL escaped": instead(b'"a\\u0000b"'),
        "NUL": instead(b'"a\x00b"'),
        "control character": instead(b'"a\x01b"'),
        "tab in text": instead(b'"a\tb"'),
        "lone surrogate": instead(b'"\\ud800"'),
        "lone low surrogate": instead(b'"\\udfff x"'),
        "surrogates turned round": instead(b'"\\udc00\\ud800"'),
        "encoded surrogate": instead(b'"\xed\xa0\x80"'),
        "not UTF-8": instead(b'"\xff\xfe"'),
        "overlong UTF-8": instead(b'"\xc0\xaf"'),
        "cut UTF-8": instead(b'"\xe2\x82"'),
        "unknown escape": instead(b'"\\x41"'),
        "deep list": b"[" * 100_000 + b"]" * 100_000,
        "deep object": b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
        "deep member": instead(b"[" * 33 + b"]" * 33),
        "byte order mark": b"\xef\xbb\xbf" + good,
        "UTF-16": good.decode().encode("utf-16"),
        "UTF-32": good.decode().encode("utf-32"),
        "a list": b"[" + good + b"]",
        "a text": json.dumps(good.decode()).encode(),
        "a number": b"1",
        "null": b"null",
        "true": b"true",
        "a member twice": beside(json.dumps(first or "x").encode() + b":1")
        if first
        else b'{"x":1,"x":1}',
        "a member twice, once escaped": b'{"a":1,"\\u0061":1}',
        "a member nobody knows": beside(b'"no_such_member":1'),
        "__proto__": beside(b'"__proto__":{"admin":true}'),
        "a name of 100,000 characters": beside(b'"' + b"a" * 100_000 + b'":1'),
        "too large": b'{"a":"' + b"a" * (1024 * 1024) + b'"}',
        **{f"{first} is {value.decode()}": instead(value) for value in WRONG_VALUES},
    }
    plain = {name: (body, {"Content-Type": JSON}) for name, body in bodies.items()}
    return plain | {
        "text/plain": (good, {"Content-Type": "text/plain"}),
        "charset=bogus": (good, {"Content-Type": f"{JSON}; charset=bogus"}),
        "charset=utf-16": (good, {"Content-Type": f"{JSON}; charset=utf-16"}),
        "a form": (b"a=b", {"Content-Type": "application/x-www-form-urlencoded"}),
        "no type": (good, {"Content-Type": ""}),
        "gzip": (gzip.compress(good), {"Content-Type": JSON, "Content-Encoding": "gzip"}),
        "deflate, it says": (good, {"Content-Type": JSON, "Content-Encoding": "deflate"}),
        "gzip, it says": (good, {"Content-Type": JSON, "Content-Encoding": "gzip"}),
    }


WRONG_VALUES = (b"true", b"{}", b"[[]]", b"1.5")
"""Of no type that the first member of any body here has."""


def send_corpus(mesh: RunningMesh) -> tuple[int, list[str]]:
    """How many were sent, and what was wrong with the answers."""
    callers, sent, wrong = Callers(mesh), 0, []
    for service in SERVICES:
        document = mesh.ask(service, "GET", "/openapi.json").body
        for path, rows in document["paths"].items():
            for method, row in rows.items():
                if "requestBody" not in row:
                    continue
                example = row["requestBody"]["content"][JSON]["example"]
                target = _filled(path, row)
                who = callers.welcome(row["security"])[0]
                cases = spoiled(example)
                for name, (body, headers) in cases.items():
                    sent += 1
                    keyed = {**headers, "Idempotency-Key": f"corpus-{sent}", "If-Match": "*"}
                    answer = mesh.ask(
                        service,
                        method.upper(),
                        target,
                        body,
                        token=callers.token(who, service),
                        headers=keyed,
                    )
                    said = json.dumps(answer.body).encode()
                    if not 400 <= answer.status < 500 or LEAKS.search(said):
                        place = f"{service} {row['operationId']}: {name}"
                        wrong.append(f"{place}: {answer.status} {said[:300]!r}")
    return sent, wrong


def _filled(path: str, row: dict) -> str:
    for each in row["parameters"]:
        if each["in"] == "path":
            path = path.replace("{" + each["name"] + "}", str(each["example"]))
    return path
