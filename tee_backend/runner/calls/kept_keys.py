"""API keys that a runner keeps: the statements that their owners signed, and which were revoked
(RN89, RN91).

Each use reads the statement anew as one that just arrived, so that no row of the journal grants
anything by itself. A key that was revoked stays noted until it would have ended: its statement
holds for ever, and may be sent again.

Example:
    keys = KeptKeys(journal, sealer, runner=backend.did)
    await keys.add(statement, owner)
    key = await keys.held(owner, nonce)
"""

import sqlite3
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import msgspec

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import Principal
from sealspace.apps.api_keys import ApiKey, read_api_key
from sealspace.errors import StatementInvalid

from ..reasons import RunRefused
from .journal import Journal, RowSealer

MOST_OF_AN_OWNER: Final = 64
MOST: Final = 100_000
"""Keys that are kept; further ones are refused, those of owners without an account from the half
on."""

_COUNTS: Final = """
SELECT count(*), count(*) FILTER (WHERE owner = ?), EXISTS (SELECT 1 FROM accounts WHERE owner = ?) FROM api_keys
"""
_MAX_NONCE: Final = (1 << 63) - 1


class _Kept(msgspec.Struct, frozen=True):
    statement: bytes
    is_revoked: bool


_DECODER: Final = msgspec.json.Decoder(_Kept)


@dataclass(frozen=True, slots=True)
class KeptKeys:
    """The keys in a journal."""

    journal: Journal
    sealer: RowSealer
    runner: Principal

    async def add(self, statement: bytes, owner: Principal) -> ApiKey:
        """Keep a key that its owner signed; adding it again changes nothing. StatementInvalid where
        it fails."""
        key = self._read(statement, owner)

        def added(connection: sqlite3.Connection) -> None:
            connection.execute("DELETE FROM api_keys WHERE expires_at < ?", (SystemClock.now(),))
            if known := self._kept(connection, key.owner, key.nonce):
                if known != [(key.nonce, 1, _Kept(statement, False))]:
                    raise RunRefused("key-known")
                return
            ((kept, own, has_account),) = connection.execute(_COUNTS, (key.owner, key.owner))
            # Grants come and go, and whoever made many of them leaves half the places to those who
            # have accounts.
            if own >= MOST_OF_AN_OWNER or kept >= (MOST if has_account else MOST // 2):
                raise RunRefused("keys-full")
            sealed = self.sealer.seal(
                _named(key.owner, key.nonce, 1), msgspec.json.encode(_Kept(statement, False))
            )
            row = (key.owner, key.nonce, key.expires_at, sealed)
            connection.execute("INSERT INTO api_keys VALUES (?, ?, ?, 1, ?)", row)

        await self.journal.write(added)
        return key

    async def held(self, owner: Principal, nonce: int) -> ApiKey:
        """Return a key that holds, whoever shows it (RN89).

        Raises:
            RunRefused: `key-refused`: there is none, or it was revoked or has ended.
        """
        for key in await self.of(owner, nonce):
            return key
        raise RunRefused("key-refused")

    async def of(self, owner: Principal, nonce: int | None = None) -> list[ApiKey]:
        """Return the keys of an owner that hold; `nonce`: that one alone."""
        keys = []
        for number, _, kept in await self.journal.write(
            lambda connection: self._kept(connection, owner, nonce)
        ):
            with suppress(StatementInvalid):
                key = self._read(kept.statement, owner)
                if key.nonce == number and not kept.is_revoked:
                    keys.append(key)
        return keys

    async def revoke(self, owner: Principal, nonce: int) -> bool:
        """Revoke a key from now on; return whether there is one."""

        def revoked(connection: sqlite3.Connection) -> bool:
            for _, version, kept in self._kept(connection, owner, nonce):
                named = _named(owner, nonce, version + 1)
                sealed = self.sealer.seal(named, msgspec.json.encode(_Kept(kept.statement, True)))
                statement = (
                    "UPDATE api_keys SET version = ?, sealed = ? WHERE owner = ? AND nonce = ?"
                )
                connection.execute(statement, (version + 1, sealed, owner, nonce))
                return True
            return False

        return await self.journal.write(revoked)

    def _kept(
        self, connection: sqlite3.Connection, owner: str, nonce: int | None
    ) -> list[tuple[int, int, _Kept]]:
        """Return nonce, version and content of the rows of an owner, or of that one alone."""
        first, last = (0, _MAX_NONCE) if nonce is None else (nonce, nonce)
        statement = (
            "SELECT nonce, version, sealed FROM api_keys WHERE owner = ? AND nonce BETWEEN ? AND ?"
        )
        rows = connection.execute(statement, (owner, first, last)).fetchall()
        return [
            (
                number,
                version,
                _DECODER.decode(self.sealer.open(_named(owner, number, version), sealed)),
            )
            for number, version, sealed in rows
        ]

    def _read(self, statement: bytes, owner: Principal) -> ApiKey:
        return read_api_key(statement, owner=owner, runner=self.runner, now=SystemClock.now())


def _named(owner: str, nonce: int, version: int) -> tuple[str, str, int]:
    return "api_keys", f"{owner}:{nonce}", version
