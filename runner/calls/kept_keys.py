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


class _StoredKey(FrozenStruct):
    statement: bytes
    is_revoked: bool


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

        def added(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM api_keys WHERE expires_at < ?", (SystemClock.now(),))
            if known := self._stored_keys(connection, key.owner, key.nonce):
                if known != [(key.nonce, 1, _StoredKey(statement, False))]:
                    raise RunRefused("key-known")
                return
            ((kept, own, has_account),) = connection.execute(_COUNTS, (key.owner, key.owner))
            # Without an account a grant suffices, and grants cost nothing. So owners without an
            # account may fill at most half of the storage.
            if own >= MOST_OF_AN_OWNER or kept >= (MOST if has_account else MOST // 2):
                raise RunRefused("keys-full")
            sealed = self.sealer.seal(
                _row_of(key.owner, key.nonce, 1), msgspec.json.encode(_StoredKey(statement, False))
            )
            connection.execute(
                "INSERT INTO api_keys VALUES (?, ?, ?, 1, ?)",
                (key.owner, key.nonce, key.expires_at, sealed),
            )

        await self.journal.write(added)
        return key

    async def live_key(self, owner: Principal, nonce: int) -> ApiKey:
        """Return the owner's live API key with the given nonce (RN89).

        The caller must still check the key's secret.

        Raises:
            RunRefused: `key-refused` if it is unknown, was revoked or has ended.
        """
        for key in await self.live_keys(owner, nonce):
            return key
        raise RunRefused("key-refused")

    async def live_keys(self, owner: Principal, nonce: int | None = None) -> list[ApiKey]:
        """Return the live API keys of an owner.

        With a nonce, only the key with that nonce is returned.
        """
        keys = []
        for number, _, kept in await self.journal.write(
            lambda connection: self._stored_keys(connection, owner, nonce)
        ):
            with suppress(StatementInvalid):
                key = self._read(kept.statement, owner)
                if key.nonce == number and not kept.is_revoked:
                    keys.append(key)
        return keys

    async def revoke(self, owner: Principal, nonce: int) -> bool:
        """Revoke an API key. Return False if there is no such key."""

        def revoked(connection: sqlite3.Connection) -> bool:
            for _, version, kept in self._stored_keys(connection, owner, nonce):
                sealed = self.sealer.seal(
                    _row_of(owner, nonce, version + 1),
                    msgspec.json.encode(_StoredKey(kept.statement, True)),
                )
                connection.execute(
                    "UPDATE api_keys SET version = ?, sealed = ? WHERE owner = ? AND nonce = ?",
                    (version + 1, sealed, owner, nonce),
                )
                return True
            return False

        return await self.journal.write(revoked)

    def _stored_keys(
        self, connection: sqlite3.Connection, owner: str, nonce: int | None
    ) -> list[tuple[int, int, _StoredKey]]:
        """Read and decrypt the API keys of an owner.

        Each result is (nonce, row version, content). With a nonce, only the row with that nonce is
        read.
        """
        first, last = (0, _MAX_NONCE) if nonce is None else (nonce, nonce)
        rows = connection.execute(
            "SELECT nonce, version, sealed FROM api_keys WHERE owner = ? AND nonce BETWEEN ? AND ?",
            (owner, first, last),
        ).fetchall()
        return [
            (
                number,
                version,
                _DECODER.decode(self.sealer.open(_row_of(owner, number, version), sealed)),
            )
            for number, version, sealed in rows
        ]

    def _read(self, statement: bytes, owner: Principal) -> ApiKey:
        return read_api_key(statement, owner=owner, runner=self.runner, now=SystemClock.now())


def _row_of(owner: str, nonce: int, version: int) -> tuple[str, str, int]:
    return "api_keys", f"{owner}:{nonce}", version
