from __future__ import annotations

import re

import argon2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mesh.errors import Broken, InvalidInput, Throttled
from mesh.services.auth import model
from mesh.services.auth.model import FREE_TRIES, LOCK_S_MAX, Session, Tries

NOW = 1_800_000_000_000
CHEAP = argon2.PasswordHasher(memory_cost=8, time_cost=1, parallelism=1)
PHC = re.compile(
    r"\$argon2id\$v=19\$m=(\d+),t=(\d+),p=(\d+)\$([A-Za-z0-9+/]{22})\$[A-Za-z0-9+/]{43}"
)


@given(
    password=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200),
    more=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20),
)
@example(password="a" * 72, more="b")
@example(password="a" * 71 + "é", more="\0")
@example(password="same\0", more="\0")
@example(password="👩‍👩‍👧", more=" ")
def test_password_and_a_longer_one_never_both_match(password, more):
    phc = CHEAP.hash(password)
    assert model.matches(phc, password)
    assert not model.matches(phc, password + more)
    assert not model.matches(CHEAP.hash(password + more), password)


def test_hash_has_the_parameters_promised():
    found = PHC.fullmatch(model.hash_password("correct staple"))
    assert found
    memory, passes, lanes = (int(found[n]) for n in (1, 2, 3))
    assert (memory, passes, lanes) == (19_456, 2, 1)


def test_hash_of_nobody_costs_as_much_as_a_real_one_and_matches_nothing():
    nobody = model.hash_of_nobody()
    assert PHC.fullmatch(nobody)
    assert argon2.extract_parameters(nobody) == argon2.extract_parameters(
        model.hash_password("correct staple")
    )
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        model.HASHER.verify(nobody, "")


@pytest.mark.parametrize(
    "phc", ["", "plain", "$argon2id$v=19$m=1", "$argon2id$v=19$m=8,t=1,p=1$c2Fs$"]
)
def test_matches_says_so_when_the_stored_hash_is_damaged(phc):
    with pytest.raises(Broken):
        model.matches(phc, "anything")


@pytest.mark.parametrize("password", ["password", "PassWord1", "1234567890", "Qwertyuiop"])
def test_check_password_refuses_common_ones_in_any_case(password):
    with pytest.raises(InvalidInput) as refused:
        model.check_password(password)
    assert refused.value.code == "password-too-common"
    assert refused.value.pointer == "/password"


def test_common_passwords_are_none_that_length_refuses_anyway():
    words = model.common_passwords()
    assert len(words) >= 3000
    assert all(8 <= len(word) <= 128 and word == word.lower() for word in words)
    assert not any(" " in word for word in words), "a comment is no password"


@pytest.mark.parametrize(
    ("failures", "wait_s"),
    [(0, 0), (4, 0), (5, 1), (6, 2), (7, 4), (14, 512), (15, 900), (16, 900), (10**9, 900)],
)
def test_lock_doubles_from_the_fifth_failure_up_to_a_cap(failures, wait_s):
    assert model.lock_s(failures) == wait_s


def test_tries_are_free_before_the_fifth_failure():
    assert model.next_turn(None, NOW) is None
    assert model.next_turn(Tries(FREE_TRIES - 1, NOW), NOW) is None


def test_try_is_refused_while_locked_and_says_for_how_long():
    locked = Tries(7, NOW + 3_001)
    with pytest.raises(Throttled) as refused:
        model.next_turn(locked, NOW)
    assert refused.value.retry_after_s == 4
    assert model.next_turn(locked, NOW + 3_001) == Tries(8, NOW + 3_001 + 8_000)


@given(st.integers(FREE_TRIES, 100))
def test_lock_is_never_longer_than_its_cap(failures):
    taken = model.next_turn(Tries(failures, NOW), NOW)
    assert taken is not None
    assert NOW < taken.locked_until_ms <= NOW + LOCK_S_MAX * 1000


def test_failures_that_began_together_lock_only_once():
    tries = None
    for _ in range(18):
        tries = model.after_failure(tries, NOW)
    assert tries == Tries(FREE_TRIES, NOW + 1_000)


def test_failures_are_forgotten_after_an_hour():
    old = Tries(12, NOW)
    assert model.next_turn(old, NOW + model.FORGET_MS + 1) is None
    assert model.after_failure(old, NOW + model.FORGET_MS + 1).failures == 1


@given(st.lists(st.from_regex(r"[a-z][a-z0-9-]{0,30}", fullmatch=True), max_size=8))
def test_refresh_token_carries_its_roles(roles):
    token = model.new_refresh_token(tuple(roles))
    assert model.roles_in(token) == tuple(roles)
    secret = token.rpartition(".")[2]
    assert len(secret) == 43  # 256 bits in base64url
    assert len(token) <= 512


def test_refresh_token_with_other_roles_has_another_hash():
    token = model.new_refresh_token(("customer",))
    forged = token.replace("customer", "admin", 1)
    assert model.refresh_hash(forged) != model.refresh_hash(token)
    assert len(model.refresh_hash(token)) == 32


SPENT = Session("ses_1", "usr_1", "ses_1", NOW + 10**9, NOW)
NEXT = Session("ses_2", "usr_1", "ses_1", NOW + 10**9)


@pytest.mark.parametrize(
    ("successor", "later_ms", "lost"),
    [
        (NEXT, 0, True),
        (NEXT, 10_000, True),
        (NEXT, 10_001, False),
        (None, 0, False),
        (Session("ses_2", "usr_1", "ses_1", NOW + 10**9, NOW), 0, False),
        (Session("ses_2", "usr_2", "ses_9", NOW + 10**9), 0, False),
    ],
)
def test_answer_counts_as_lost_only_for_the_same_request_shortly_after(successor, later_ms, lost):
    assert model.is_lost_answer(SPENT, successor, NOW + later_ms) is lost
