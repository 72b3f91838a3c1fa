"""Who is served: profiles, status, roles, login history.

Owns what is known of a person. Never holds a password, a hash or a token: those are auth's, and a
login is answered only after auth has said yes.

Asked by people to register, to log in and out and about themselves, by admins about all, by the
operator to act as a user. Asks auth to keep, check and forget credentials and to open and end
sessions. Tells `user.registered`, `user.roles_changed`, `user.suspended`, `user.reinstated` and
`user.erased`, without personal data. Hears from order how its people's orders go on.
"""
