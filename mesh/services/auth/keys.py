"""The keys that sign access tokens: made, rotated and revoked, each in one transaction with its event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mesh.errors import Conflict
from mesh.framework import tokens
from mesh.services.auth import model, store
from mesh.services.auth.messages import Jwk, Keys, KeysChanged

if TYPE_CHECKING:
    from mesh.framework import Tx
    from mesh.services.auth.model import PublicKey


def signing(tx: Tx) -> tokens.SigningKey:
    """The key that signs; made and told of when it is first needed."""
    found = store.signing_key(tx)
    if found is not None:
        return found
    new = tokens.new_key()
    store.put_signing_key(tx, new)
    _tell(tx, new.kid)
    return new


def _tell(tx: Tx, kid: str) -> Keys:
    keys = published(store.published_keys(tx, tx.now_ms))
    tx.tell(KeysChanged(kid, keys))
    return Keys(kid, keys, changed=True)


def rotate(tx: Tx) -> Keys:
    """Sign with a new key from now on. Raises: Conflict (`too-many-keys`)."""
    if len(store.published_keys(tx, tx.now_ms)) >= model.KEYS_MAX:
        raise Conflict(f"{model.KEYS_MAX} keys are in use: wait a minute", code="too-many-keys")
    store.retire_signing_key(tx, tx.now_ms + model.RETIRE_MS)
    new = tokens.new_key()
    store.put_signing_key(tx, new)
    return _tell(tx, new.kid)


def revoke(tx: Tx, kid: str) -> Keys:
    """Publish a key no more, and sign with a new one if it was that which signs."""
    signs = signing(tx)
    if not store.delete_key(tx, kid):
        return Keys(signs.kid, published(store.published_keys(tx, tx.now_ms)), changed=False)
    if signs.kid == kid:
        signs = tokens.new_key()
        store.put_signing_key(tx, signs)
    return _tell(tx, signs.kid)


def first(tx: Tx) -> list[PublicKey]:
    """Every published key, of which there is one by now."""
    signing(tx)
    return store.published_keys(tx, tx.now_ms)


def published(keys: list[PublicKey]) -> tuple[Jwk, ...]:
    """As a key set names them."""
    return tuple(Jwk(**tokens.jwk(key.kid, key.public)) for key in keys)
