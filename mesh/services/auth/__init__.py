"""Who is who: passwords, sessions and the keys that sign access tokens.

Owns credentials (argon2id), refresh tokens (as hashes), signing keys and the pace of guesses. Never holds
names or roles: a subject is an opaque id, a login an opaque text, and a session's roles travel
in its tokens.

Asked by user to keep, check and erase credentials and to open and end sessions, by the holder of a
refresh token to renew or end one, by the operator to rotate and revoke keys, by anybody for the
public ones. Tells `auth.keys_changed` and `auth.session_revoked`. Hears from user whose sessions
must end.
"""
