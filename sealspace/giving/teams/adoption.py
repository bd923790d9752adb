"""Moving one's own secrets into a team (TM23).

A secret moves with its versions, each of which is opened and sealed for the team's network. Nothing
is stored about a move in progress. Instead, a version of the team counts as moved if the value and
the times in the sealed plaintext are those of one's own version. So another call continues an
interrupted move.

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

from ...documents.places import place_of, why_not_bound
from ...documents.secret_payloads import secret_payload
from ...documents.unbound_values import unbound_value
from ...encryption import Encryption, envelope_bytes
from ...errors import InvalidEnvelope, InvalidInput, NotFound, NotGranted
from ...kv import Kv
from ...secrets import (
    SECRETS_SPACE,
    VAULT_METADATA,
    SecretName,
    Secrets,
    parse_secret_label,
    secret_label,
    writable_name,
)
from ...session import network_of_owner, space_of
from ...wire.caller import Caller
from ...wire.values import KeptVersion


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


class _Content(NamedTuple):
    """The content of a version. Two versions with equal content count as the same."""

    value: str | bytes
    created_at: str
    updated_at: str

    def __repr__(self) -> str:
        return "_Content(…)"  # without the value, which is secret


class _History(NamedTuple):
    """The versions of a secret.

    Attributes:
        contents: the content of each version, the oldest first.
        etag: etag of the current version; None if there is no secret, or it was deleted.
    """

    contents: tuple[_Content, ...]
    etag: str | None

    @property
    def has_current(self) -> bool:
        """Whether the newest version is the current one, and not a deleted one."""
        return self.etag is not None


class _StoredSecret:
    """A secret in the space of one owner."""

    def __init__(self, caller: Caller, secret: SecretName) -> None:
        self.caller = caller
        self.secret = secret
        self.space = space_of(caller.session.owner, SECRETS_SPACE)
        self.kv = Kv(caller, self.space)
        self.encryption = Encryption(caller)
        self.secrets = Secrets(caller, self.encryption, self.space)

    async def read_history(self) -> _History:
        """Read and open all versions of the secret; without a secret, the history is empty."""
        try:
            versions = await self.kv.versions(self.secret.path)
        except NotFound:
            return _History(contents=(), etag=None)
        contents = []
        for version in reversed(versions):  # the node lists the newest first
            contents.append(await self._read_version(version))
        newest = versions[0]
        etag = newest.etag if newest.is_current else None
        return _History(contents=tuple(contents), etag=etag)

    async def _read_version(self, version: KeptVersion) -> _Content:
        """Open a version. Refuse it if it may belong to another secret."""
        opened = await self.secrets.read(
            self.secret.name, scope=self.secret.scope, version=version.version
        )
        if not opened.is_bound:
            await self._require_only_path(version)
        return _Content(
            value=opened.value, created_at=opened.created_at, updated_at=opened.updated_at
        )

    async def _require_only_path(self, version: KeptVersion) -> None:
        """Refuse a value that states no place, and was also stored at another path (EN48)."""
        stored = await self.kv.get(self.secret.path, version=version.version)
        try:
            envelope = parse_envelope(stored.body)
        except NetworkLibraryError as exc:
            raise InvalidEnvelope(f"{self.secret.label} is not a sealed secret: {exc}") from exc
        stored_paths = await self.encryption.paths_of(envelope)
        reason = why_not_bound(
            stored_paths, self.space, self.secret.path, size_bytes=len(stored.body)
        )
        if reason is not None:
            raise unbound_value(self.secret)

    async def put(self, content: _Content, *, replaced_etag: str | None) -> str:
        """Seal and store a version, and return its ETag.

        It replaces exactly the version with `replaced_etag`; with None, there must be no value.
        Otherwise PreconditionFailed is raised.
        """
        payload = secret_payload(
            content.value,
            place=place_of(self.space, self.secret.path),
            now=self.caller.clock.now(),
            created_at=content.created_at,
            updated_at=content.updated_at,
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
            if_absent=replaced_etag is None,
            if_match=replaced_etag,
        )


async def adopt_secret(own: Caller, team: Caller, label: str, *, keep: bool) -> Adopted:
    """Move a secret into a team; see `Teams.adopt`."""
    parsed = parse_secret_label(label)
    secret = writable_name(parsed.name, parsed.scope)
    abilities = {right.ability for right in team.session.grants[0].capabilities}
    # A reader cannot put. A member for some secrets cannot list, and reads no former values (TM5).
    can_move = KV_LIST in abilities and KV_PUT in abilities
    if not can_move:
        raise NotGranted(
            "only an admin, or a writer for all secrets, moves secrets into a team",
            hint="ask an admin of the team for another role",
        )
    source = _StoredSecret(own, secret)
    target = _StoredSecret(team, secret)
    own_history = await source.read_history()
    own_contents = _without_repeats(own_history.contents)
    team_history = await target.read_history()
    if not own_contents:
        raise _no_current_value(secret)
    # An interrupted call may have deleted one's own secret; then the team has the last version.
    is_newest_moved = own_contents[-1] in team_history.contents
    if not own_history.has_current and not is_newest_moved:
        raise _no_current_value(secret)
    moved_count = _count_moved(own_contents, team_history, secret)
    etag = team_history.etag
    for content in own_contents[moved_count:]:
        # This fails if somebody else has written to the team's secret since it was read.
        etag = await target.put(content, replaced_etag=etag)
    # The stored versions are read and opened again, before one's own secret is deleted.
    _require_moved(own_contents, await target.read_history(), secret)
    own_etag = own_history.etag
    is_own_deleted = own_etag is None
    if own_etag is not None and not keep:
        await source.secrets.delete(secret.name, scope=secret.scope, if_match=own_etag)
        is_own_deleted = True
    return Adopted(
        label=secret.label,
        versions=len(own_contents) - moved_count,
        is_own_deleted=is_own_deleted,
    )


def _no_current_value(secret: SecretName) -> NotFound:
    return NotFound(404, "there is no current value", asked=f"moving the secret {secret.label}")


def _without_repeats(contents: Sequence[_Content]) -> tuple[_Content, ...]:
    """Return each content once, at its last position.

    A rollback stores a former version again. With both of them, nobody could say how far an
    interrupted move came.
    """
    last_position = {content: position for position, content in enumerate(contents)}
    return tuple(sorted(last_position, key=last_position.__getitem__))


def _count_moved(own_contents: Sequence[_Content], team: _History, secret: SecretName) -> int:
    """Return how many of one's own versions the team has, from the oldest on.

    Raises:
        InvalidInput: the team has a value of its own, which is never replaced.
    """
    if own_contents[-1] in team.contents:
        return len(own_contents)  # all were moved; a member may have written a newer value since
    if not team.has_current and not _has_any(team, own_contents):
        return 0
    if team.has_current and team.contents[-1] in own_contents:
        # An interrupted move came as far as the team's current version.
        moved_count = own_contents.index(team.contents[-1]) + 1
        if not _has_any(team, own_contents[moved_count:]):
            return moved_count
    raise InvalidInput(
        f"the team has a secret {secret.label} of its own, or a member changed it since the move"
        " began; it is not replaced",
        hint="compare both values, then store the right one for the team, or delete the team's"
        " secret with its versions (purge)",
        step=f"compare: sealspace secret get {secret.name}, with --as me and with --as TEAM",
    )


def _has_any(team: _History, contents: Sequence[_Content]) -> bool:
    """Return whether the team has a version with one of some contents."""
    return any(content in team.contents for content in contents)


def _require_moved(own_contents: Sequence[_Content], team: _History, secret: SecretName) -> None:
    """Check that the team has one's own versions, before these are deleted."""
    missing_contents = [content for content in own_contents if content not in team.contents]
    newest = own_contents[-1]
    # If a member has already replaced the newest one, the node may have dropped the oldest ones.
    is_newest_replaced = newest in team.contents and team.contents[-1] != newest
    if missing_contents and not is_newest_replaced:
        raise InvalidInput(
            f"the team's secret {secret.label} lacks {len(missing_contents)} of"
            f" {len(own_contents)} versions, so your own was not deleted",
            hint="run the command again; if that does not help, the node keeps fewer versions now",
        )
