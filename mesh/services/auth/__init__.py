"""Who is who: passwords, sessions and the keys that sign access tokens.

Owns credentials (argon2id), refresh tokens (as hashes), signing keys and lockouts. Never holds
names or roles: a subject is an opaque id, a login an opaque text, and a session's roles travel
in its tokens.

Asked by user to keep and check credentials and to open sessions, by the holder of a refresh token
to renew or end one, by anybody for its public keys. Tells `auth.keys_changed` and
`auth.session_revoked`. Hears nothing.
"""
