"""Moving one's own secrets into a team (TM23).

A secret moves with its versions, each of which is opened and sealed for the team's network. Nothing
is stored about a move in progress: a version of the team is the same as one's own if the value and
the times in the sealed plaintext are the same. So another call continues an interrupted move.

Example:
    created = await client.teams.create()
    team = client.acting(
        await client.teams.sign_in(wallet, await client.teams.membership(created.team))
    )
    await client.secrets().put("LICENSE", "open sesame")
    adopted = await client.teams.adopt("LICENSE", team.session)
    assert adopted.versions == 1 and adopted.is_own_deleted
    assert await team.secrets().get("LICENSE") == "open sesame"
"""

from collections.abc import Sequence
from typing import NamedTuple

from capabilities.abilities import KV_LIST, KV_PUT
from encryption_network.envelope import parse_envelope
from encryption_network.network_errors import EncryptionError as NetworkLibraryError

from ..documents.places import place_of, why_not_bound
from ..documents.secret_payloads import secret_payload
from ..documents.unbound_values import unbound_value
from ..encryption import Encryption, envelope_bytes
from ..errors import InvalidEnvelope, InvalidInput, NotFound, NotGranted
from ..kv import Kv
from ..secrets import (
    SECRETS_SPACE,
    VAULT_METADATA,
    SecretName,
    Secrets,
    parse_secret_label,
    secret_label,
    writable_name,
)
from ..session import network_of_owner, space_of
from ..wire.caller import Caller
from ..wire.values import KeptVersion


class Adopted(NamedTuple):
    """The result of moving a secret into a team.

    Attributes:
        label: `NAME` or `scope/NAME`.
        versions: how many versions this call stored in the team; 0 if all were there.
        is_own_deleted: whether one's own secret is deleted now.
    """

    label: str
    versions: int
    is_own_deleted: bool


class _Value(NamedTuple):
    """What a version contains. Two versions with equal content count as the same."""

    value: str | bytes
    created_at: str
    updated_at: str

    def __repr__(self) -> str:
        return "_Value(…)"


class _History(NamedTuple):
    """The versions of a secret, the oldest first.

    Attributes:
        values: the content of each version.
        etag: of the current value; None if there is none.
    """

    values: tuple[_Value, ...]
    etag: str | None


class _Place:
    """A secret in the space of one owner."""

    def __init__(self, caller: Caller, secret: SecretName) -> None:
        self.caller = caller
        self.secret = secret
        self.space = space_of(caller.session.owner, SECRETS_SPACE)
        self.kv = Kv(caller, self.space)
        self.encryption = Encryption(caller)
        self.secrets = Secrets(caller, self.encryption, self.space)

    async def history(self) -> _History:
        """Read and open all versions of the secret; without a secret, the history is empty."""
        try:
            kept = await self.kv.versions(self.secret.path)
        except NotFound:
            return _History(values=(), etag=None)
        values = tuple([await self._value(one) for one in reversed(kept)])
        return _History(values=values, etag=kept[0].etag if kept[0].is_current else None)

    async def _value(self, kept: KeptVersion) -> _Value:
        secret = self.secret
        found = await self.secrets.read(secret.name, scope=secret.scope, version=kept.version)
        if not found.is_bound:
            await self._require_of_this_path(kept)
        return _Value(value=found.value, created_at=found.created_at, updated_at=found.updated_at)

    async def _require_of_this_path(self, kept: KeptVersion) -> None:
        """Refuse a value without a place that may belong to another secret (EN48)."""
        stored = await self.kv.get(self.secret.path, version=kept.version)
        try:
            envelope = parse_envelope(stored.body)
        except NetworkLibraryError as exc:
            raise InvalidEnvelope(f"{self.secret.label} is not a sealed secret: {exc}") from exc
        paths = await self.encryption.paths_of(envelope)
        size_bytes = len(stored.body)
        if why_not_bound(paths, self.space, self.secret.path, size_bytes=size_bytes) is not None:
            raise unbound_value(self.secret)

    async def put(self, value: _Value, etag: str | None) -> str:
        """Seal and store a value over the version with an ETag, or if there is no value."""
        payload = secret_payload(
            value.value,
            place=place_of(self.space, self.secret.path),
            now=self.caller.clock.now(),
            created_at=value.created_at,
            updated_at=value.updated_at,
        )
        envelope = await self.encryption.encrypt(
            payload,
            network=network_of_owner(self.space.owner),
            label=secret_label(self.space, self.secret),
            metadata=VAULT_METADATA,
        )
        return await self.kv.put(
            self.secret.path,
            envelope_bytes(envelope).decode(),
            if_absent=etag is None,
            if_match=etag,
        )


async def adopt_secret(own: Caller, team: Caller, label: str, *, keep: bool) -> Adopted:
    """Move a secret into a team; see `Teams.adopt`."""
    parsed = parse_secret_label(label)
    secret = writable_name(parsed.name, parsed.scope)
    abilities = {one.ability for one in team.session.grants[0].capabilities}
    if not abilities >= {KV_LIST, KV_PUT}:
        # A member for some secrets has no right to list, and reads no former values (TM5).
        raise NotGranted(
            "only an admin, or a writer for all secrets, moves secrets into a team",
            hint="ask an admin of the team for another role",
        )
    source, target = _Place(own, secret), _Place(team, secret)
    history = await source.history()
    values = _without_repeats(history.values)
    before = await target.history()
    if not values or (history.etag is None and values[-1] not in before.values):
        raise NotFound(404, "there is no current value", asked=f"moving the secret {secret.label}")
    moved_count = _moved_count(values, before, secret)
    etag = before.etag
    for value in values[moved_count:]:
        # Both conditions fail if somebody else has written in the meantime.
        etag = await target.put(value, etag)
    # What was stored is read and opened again, before one's own is deleted.
    _require_moved(values, await target.history(), secret)
    is_own_deleted = history.etag is None
    if history.etag is not None and not keep:
        await source.secrets.delete(secret.name, scope=secret.scope, if_match=history.etag)
        is_own_deleted = True
    return Adopted(
        label=secret.label,
        versions=len(values) - moved_count,
        is_own_deleted=is_own_deleted,
    )


def _without_repeats(values: Sequence[_Value]) -> tuple[_Value, ...]:
    """Return each value once, where it is the last time.

    A version that was stored again by a rollback is the same as the former one. With two of them,
    it would be unknown how far an interrupted move came.
    """
    last = {value: position for position, value in enumerate(values)}
    return tuple([value for position, value in enumerate(values) if last[value] == position])


def _moved_count(values: Sequence[_Value], team: _History, secret: SecretName) -> int:
    """Return how many of one's own values the team has, from the oldest on.

    Raises:
        InvalidInput: the team's current value is another one. It is never replaced.
    """
    if values[-1] in team.values:
        return len(values)
    if team.etag is None and not any(value in team.values for value in values):
        return 0
    if team.etag is not None and team.values[-1] in values:
        count = values.index(team.values[-1]) + 1
        if not any(value in team.values for value in values[count:]):
            return count
    raise InvalidInput(
        f"the team has a secret {secret.label} of its own, or a member changed it since the move"
        " began; it is not replaced",
        hint="compare both values, then store the right one for the team, or delete the team's"
        " secret with its versions (purge)",
        step=f"compare: sealspace secret get {secret.name}, with --as me and with --as TEAM",
    )


def _require_moved(values: Sequence[_Value], team: _History, secret: SecretName) -> None:
    """Check that the team has one's own values, before these are deleted."""
    missing_count = len([value for value in values if value not in team.values])
    # If a member has replaced the last one, the node may not keep the oldest ones any more.
    is_replaced = values[-1] in team.values and team.values[-1] != values[-1]
    if missing_count == 0 or is_replaced:
        return
    raise InvalidInput(
        f"the team's secret {secret.label} lacks {missing_count} of {len(values)} versions, so your"
        " own was not deleted",
        hint="run the command again; if that does not help, the node keeps fewer versions now",
    )
