"""auth as a table."""

from __future__ import annotations

from types import NoneType

from mesh.framework import (
    ANYONE,
    OPERATOR,
    Invariant,
    Listener,
    Operation,
    Seed,
    Service,
    Tells,
    services,
)
from mesh.services.auth import actions, listeners, messages, promises

ALICE = "usr_00000000-0000-7000-8000-000000000001"
NOBODY = "usr_00000000-0000-7000-8000-0000000000ff"

service = Service(
    name="auth",
    summary="Who is who: passwords, sessions and the keys that sign access tokens.",
    operations=(
        Operation(
            "set-credentials",
            "PUT /credentials/{subject}",
            actions.set_credentials,
            messages.SetCredentials,
            messages.CredentialsView,
            allow=services("user"),
            example=messages.SetCredentials(NOBODY, "nobody@shop.example", "demo-shop-pass"),
        ),
        Operation(
            "verify-credentials",
            "POST /credentials/verify",
            actions.verify_credentials,
            messages.VerifyCredentials,
            messages.Verified,
            allow=services("user"),
            example=messages.VerifyCredentials("alice@shop.example", "demo-shop-pass"),
        ),
        Operation(
            "sign-in",
            "POST /credentials/sign-in",
            actions.sign_in,
            messages.SignIn,
            messages.SignedIn,
            allow=services("user"),
            example=messages.SignIn(
                "alice@shop.example", "demo-shop-pass", subject=ALICE, roles=("customer",)
            ),
        ),
        Operation(
            "issue-token",
            "POST /tokens",
            actions.issue_token,
            messages.IssueToken,
            messages.Tokens,
            allow=services("user"),
            example=messages.IssueToken(ALICE, ("customer",)),
            status=201,
            key="optional",
        ),
        Operation(
            "refresh-token",
            "POST /tokens/refresh",
            actions.refresh_token,
            messages.RefreshToken,
            messages.Tokens,
            allow=ANYONE,
            example=messages.RefreshToken("customer.the-token-of-a-login"),
            key="optional",
        ),
        Operation(
            "revoke-token",
            "POST /tokens/revoke",
            actions.revoke_token,
            messages.RevokeToken,
            NoneType,
            allow=ANYONE,
            example=messages.RevokeToken("customer.the-token-of-a-login"),
            status=204,
        ),
        Operation(
            "end-session",
            "DELETE /sessions/{id}",
            actions.end_session,
            messages.SessionRef,
            NoneType,
            allow=services("user"),
            example=messages.SessionRef("ses_00000000-0000-7000-8000-0000000000ff"),
            status=204,
        ),
        Operation(
            "end-sessions",
            "POST /subjects/{subject}/end-sessions",
            actions.end_sessions,
            messages.EndSessions,
            NoneType,
            allow=services("user"),
            example=messages.EndSessions(NOBODY, "suspended"),
            status=204,
        ),
        Operation(
            "erase-credentials",
            "DELETE /credentials/{subject}",
            actions.erase_credentials,
            messages.SubjectRef,
            NoneType,
            allow=services("user"),
            example=messages.SubjectRef(NOBODY),
            status=204,
        ),
        Operation(
            "explain",
            "GET /subjects/{id}/explain",
            actions.explain,
            messages.Explain,
            messages.Explanation,
            allow=OPERATOR,
            example=messages.Explain(ALICE),
        ),
        Operation(
            "rotate-keys",
            "POST /keys/rotate",
            actions.rotate_keys,
            messages.NoMembers,
            messages.Keys,
            allow=OPERATOR,
            example=messages.NoMembers(),
        ),
        Operation(
            "revoke-key",
            "DELETE /keys/{kid}",
            actions.revoke_key,
            messages.KeyRef,
            messages.Keys,
            allow=OPERATOR,
            example=messages.KeyRef("0" * 16),
        ),
        Operation(
            "jwks",
            "GET /.well-known/jwks.json",
            actions.jwks,
            messages.NoMembers,
            messages.KeySet,
            allow=ANYONE,
            example=messages.NoMembers(),
        ),
    ),
    listeners=(
        Listener("user.roles_changed", listeners.on_roles_changed, messages.UserChanged),
        Listener("user.suspended", listeners.on_suspended, messages.UserChanged),
        Listener("user.erased", listeners.on_erased, messages.UserChanged),
    ),
    tells=(
        Tells("auth.keys_changed", messages.KeysChanged, key="kid"),
        Tells("auth.session_revoked", messages.SessionRevoked, key="session_id"),
    ),
    invariants=(
        Invariant(
            "passwords-hashed",
            "every password is kept as argon2id and in no other way",
            promises.PASSWORDS_NOT_HASHED,
            of="credentials",
        ),
        Invariant(
            "one-live-token",
            "a session has at most one refresh token that can be used",
            promises.SESSIONS_WITH_TWO_TOKENS,
            of="sessions",
        ),
        Invariant(
            "sessions-signed",
            "where there are sessions, one key signs",
            promises.SESSIONS_UNSIGNED,
            of="sessions",
        ),
    ),
    seed=Seed(messages.Seed, actions.plant),
)
