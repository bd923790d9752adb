"""Storage of API keys as owner-signed statements (RN89, RN91).

Each use verifies the statement again, so that a row of the journal alone grants nothing. A revoked
key stays recorded until its expiry: its statement keeps a valid signature, and could be sent again.

Example:
    keys = KeptKeys(journal, sealer, runner=backend.did)
    await keys.add(statement, owner)
    key = await keys.live_key(owner, nonce)
"""

import sqlite3
from contextlib import suppress
from typing import NamedTuple

import msgspec

from capabilities.clock_and_entropy import SystemClock
from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal
from sealspace.apps.api_keys import ApiKey, read_api_key
from sealspace.errors import StatementInvalid

from ..reasons import RunRefused
from .journal import Journal, RowSealer

MOST_OF_AN_OWNER = 64
MOST = 100_000
"""Most keys in the journal. Owners without an account may fill at most half of it."""

_COUNTS = """
SELECT count(*), count(*) FILTER (WHERE owner = ?),
    EXISTS (SELECT 1 FROM accounts WHERE owner = ?) FROM api_keys
"""
_MAX_NONCE = (1 << 63) - 1
_FIRST_VERSION = 1
"""Version of the row of a new key; revoking the key makes it the next one."""


class _StoredKey(FrozenStruct):
    statement: bytes
    is_revoked: bool


class _KeyRow(NamedTuple):
    """The row of an API key, decrypted."""

    nonce: int
    version: int
    stored: _StoredKey


_DECODER = msgspec.json.Decoder(_StoredKey)


@frozen
class KeptKeys:
    """The API keys in the runner's database."""

    journal: Journal
    sealer: RowSealer
    runner: Principal

    async def add(self, statement: bytes, owner: Principal) -> ApiKey:
        """Store an API key that its owner signed.

        Storing the same key again changes nothing.

        Raises:
            StatementInvalid: the statement is not a valid key of this owner for this runner.
            RunRefused: `key-known` if the nonce is taken, `keys-full`.
        """
        key = self._read(statement, owner)

        def insert_key(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM api_keys WHERE expires_at < ?", (SystemClock.now(),))
            stored = _StoredKey(statement=statement, is_revoked=False)
            rows = self._key_rows(connection, key.owner, key.nonce)
            if rows:
                # Only the same statement, not revoked, may be stored again.
                if rows != [_KeyRow(nonce=key.nonce, version=_FIRST_VERSION, stored=stored)]:
                    raise RunRefused("key-known")
                return
            ((all_keys, own_keys, has_account),) = connection.execute(
                _COUNTS, (key.owner, key.owner)
            )
            # Without an account a grant suffices, and grants cost nothing. So owners without an
            # account may fill at most half of the storage.
            most = MOST if has_account else MOST // 2
            if own_keys >= MOST_OF_AN_OWNER or all_keys >= most:
                raise RunRefused("keys-full")
            row = _row_of(key.owner, key.nonce, _FIRST_VERSION)
            sealed = self.sealer.seal(row, msgspec.json.encode(stored))
            connection.execute(
                "INSERT INTO api_keys VALUES (?, ?, ?, ?, ?)",
                (key.owner, key.nonce, key.expires_at, _FIRST_VERSION, sealed),
            )

        await self.journal.write(insert_key)
        return key

    async def live_key(self, owner: Principal, nonce: int) -> ApiKey:
        """Return the owner's live API key with the given nonce (RN89).

        The caller must still check the key's secret.

        Raises:
            RunRefused: `key-refused` if it is unknown, was revoked or has ended.
        """
        keys = await self.live_keys(owner, nonce)
        if not keys:
            raise RunRefused("key-refused")
        return keys[0]

    async def live_keys(self, owner: Principal, nonce: int | None = None) -> list[ApiKey]:
        """Return the live API keys of an owner.

        With a nonce, only the key with that nonce is returned.
        """
        rows = await self.journal.write(lambda connection: self._key_rows(connection, owner, nonce))
        keys = []
        for row in rows:
            with suppress(StatementInvalid):  # the key has ended, or is not valid here
                key = self._read(row.stored.statement, owner)
                if key.nonce == row.nonce and not row.stored.is_revoked:
                    keys.append(key)
        return keys

    async def revoke(self, owner: Principal, nonce: int) -> bool:
        """Revoke an API key. Return False if there is no such key."""

        def mark_revoked(connection: sqlite3.Connection) -> bool:
            rows = self._key_rows(connection, owner, nonce)
            if not rows:
                return False
            (row,) = rows
            revoked = _StoredKey(statement=row.stored.statement, is_revoked=True)
            version = row.version + 1
            place = _row_of(owner, nonce, version)
            sealed = self.sealer.seal(place, msgspec.json.encode(revoked))
            connection.execute(
                "UPDATE api_keys SET version = ?, sealed = ? WHERE owner = ? AND nonce = ?",
                (version, sealed, owner, nonce),
            )
            return True

        return await self.journal.write(mark_revoked)

    def _key_rows(
        self, connection: sqlite3.Connection, owner: str, nonce: int | None
    ) -> list[_KeyRow]:
        """Read and decrypt the API keys of an owner, or only the one with a nonce."""
        first, last = (0, _MAX_NONCE) if nonce is None else (nonce, nonce)
        rows = connection.execute(
            "SELECT nonce, version, sealed FROM api_keys WHERE owner = ? AND nonce BETWEEN ? AND ?",
            (owner, first, last),
        ).fetchall()
        key_rows = []
        for number, version, sealed in rows:
            # The sealer refuses a row that was edited, or moved to another place.
            stored = _DECODER.decode(self.sealer.open(_row_of(owner, number, version), sealed))
            key_rows.append(_KeyRow(nonce=number, version=version, stored=stored))
        return key_rows

    def _read(self, statement: bytes, owner: Principal) -> ApiKey:
        return read_api_key(statement, owner=owner, runner=self.runner, now=SystemClock.now())


def _row_of(owner: str, nonce: int, version: int) -> tuple[str, str, int]:
    return "api_keys", f"{owner}:{nonce}", version
