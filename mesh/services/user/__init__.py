"""Who is served: profiles, status, roles, login history.

Owns what is known of a person. Never holds a password, a hash or a token: those are auth's, and a
login is answered only after auth has said yes.

Asked by people to register, to log in and to look at themselves, by admins to look at all, by the
operator to act as a user. Asks auth to keep and check credentials and to open sessions. Tells
`user.registered`, without personal data. Hears nothing.
"""
