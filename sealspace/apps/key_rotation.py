"""A client that replaces the key of an encryption network, and retires former keys.

The node makes the next key, and the owner's wallet or own key signs that it replaces the former
one. New values are sealed to the newest key from then on. Earlier values are opened with the former
key until they are encrypted again. Nothing needs a former key any more when it is retired.

Example:
    network = client.encryption.network()
    await client.secrets().put("API_KEY", "open sesame")
    newest = await client.network_keys.rotate(network, wallet=lambda: wallet)
    done = await client.network_keys.reencrypt(network)
    assert (newest.key_version, done.sealed, done.failed) == (2, 1, ())
    assert await client.secrets().get("API_KEY") == "open sesame"
    await client.network_keys.retire(network, 1)
    await client.network_keys.destroy(network, 1)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from urllib.parse import urlencode

import msgspec

from capabilities.abilities import SET_POLICY
from capabilities.facts import KEYS_FACT
from capabilities.frozen import frozen
from capabilities.frozen_struct import FrozenStruct
from capabilities.resources import NetworkId
from capabilities.strict_base64 import encode_url
from capabilities.strict_json import JsonObject
from encryption_network.canonical_json import canonical_bytes
from encryption_network.envelope import InlineEnvelope, parse_envelope
from encryption_network.network_errors import DescriptorError, EnvelopeError
from encryption_network.pins import NetworkPin, pin_of
from encryption_network.rotation import verify_candidate
from encryption_network.signed_descriptor import MAX_NONCE_BYTES, SIGNATURE_MEMBER

from ..documents.key_statements import key_change, read_key_changes, sign_key_change
from ..documents.network_keys import NetworkKeys, parse_network_keys
from ..documents.places import place_of, why_not_bound
from ..documents.secret_names import OWN_FOLDER, SECRETS_SPACE, SHARED_PREFIX, VAULT_PREFIX
from ..documents.secret_payloads import read_payload
from ..documents.signed_statements import StatementSigner
from ..encryption import Encryption, envelope_bytes, require_usable
from ..errors import (
    DecryptDenied,
    InvalidInput,
    InvalidResponse,
    InvalidSecretPayload,
    MalformedAnswer,
    NetworkKeyChanged,
    NodeFailure,
    NotFound,
    PlaceMismatch,
    PreconditionFailed,
    ResponseSignatureInvalid,
    SpaceNotFound,
    StatementInvalid,
    ValueTooLarge,
)
from ..kv import Kv, Value
from ..session import iso_time, network_of_owner
from ..wallets import AnyWallet
from ..wire.caller import Caller
from ..wire.network_requests import administer, network_path, request_change
from ..wire.node_answers import decoded, json_object, read_pages
from ..wire.transport import Answer, Request, json_request
from .contacts import CONTACTS_SPACE

WalletSource = Callable[[], AnyWallet | None]
"""Returns the owner's wallet, or None if the session's key is the owner's own."""
LookedAt = Callable[[int, int], None]
"""Called with the number of values that were looked at, and the number of all."""

MAX_ENVELOPE_BYTES = 4 * 1024 * 1024
"""Largest value that is read to see whether it is an envelope, bytes."""
_AT_ONCE = 8
"""Number of values that are encrypted concurrently."""
_MOST_TRIES = 32
"""How often a value is tried while other writers replace it."""
_KEYS_IN_A_READ = 50
"""Number of values that are read by one request."""


@frozen
class Reencrypted:
    """The result of encrypting an owner's values again.

    Attributes:
        sealed: number of values that were sealed to the newest key by this call.
        current: number of values that were sealed to it before.
        other: number of values that are not envelopes of the network.
        failed: paths of the values that could not be opened, or that may belong to another path,
            each with the reason. They are unchanged.
    """

    sealed: int = 0
    current: int = 0
    other: int = 0
    failed: tuple[tuple[str, str], ...] = field(default=())


class NeedingValue(FrozenStruct):
    """A value that is sealed to a former key.

    Attributes:
        space: id of the space.
        path: path of the value.
        version: number of a former value that is kept; None for the current value.
    """

    space: str
    path: str
    version: int | None


class UsagePage(FrozenStruct):
    """A page of the values that are sealed to a former key."""

    values: tuple[NeedingValue, ...]
    after: str | None


_USAGE_PAGE = msgspec.json.Decoder(UsagePage)


class KeyRotation:
    """A client that replaces and retires the keys of an owner's encryption networks.

    Use `Client.network_keys` to get an instance.

    Args:
        caller: sends requests with the session's authority.
        encryption: the encryption service of the same client.
    """

    def __init__(self, caller: Caller, encryption: Encryption) -> None:
        self._caller = caller
        self._encryption = encryption

    async def versions(self, network: NetworkId) -> NetworkKeys:
        """Return the versions of a network's key.

        The newest version is the one in the descriptor, which the node signed. The versions from 2
        on are the ones that the network's owner signed. The node alone states the times and states.
        Statements from before the node got a new identity name its former one (RK9).

        Raises:
            NetworkKeyChanged: the owner's statements do not lead from version 1 to the newest.
            SealspaceError: as `Encryption.descriptor` and `Encryption.keys`.
        """
        newest = pin_of(await self._encryption.descriptor(network))
        keys = await self._encryption.keys(network)
        pins = [one.pin(network.text) for one in keys.keys]
        try:
            changes = read_key_changes(
                pins[0],
                [statement.encode() for statement in keys.statements],
                network=network,
                node_did=await self._caller.node_id(),
            )
        except StatementInvalid as exc:
            raise NetworkKeyChanged(pins[0], newest) from exc
        signed = [pins[0], *(change.pin for change in changes)]
        if signed != pins:
            raise NetworkKeyChanged(signed[-1], newest)
        if pins[-1] != newest:
            raise NetworkKeyChanged(pins[-1], newest)
        return keys

    async def rotate(
        self, network: NetworkId, *, wallet: WalletSource = lambda: None
    ) -> NetworkPin:
        """Replace the key of an encryption network.

        The node makes the key, and the owner signs it. The former key opens earlier values until
        it is retired.

        Args:
            network: a network of the owner.
            wallet: returns the owner's wallet, or None if the session's key is the owner's own. It
                signs once.
        Returns:
            The newest key, which the session pins.
        Raises:
            InvalidInput: the wallet is missing, or is not the owner's.
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            PreconditionFailed: another rotation was faster.
            ResponseSignatureInvalid: the node did not sign the candidate for the next key.
            SealspaceError: as `Encryption.descriptor`.
        """
        signer = self._owners_signer(network, wallet)
        descriptor = await self._encryption.descriptor(network)
        require_usable(descriptor)
        current = pin_of(descriptor)
        public_key = await self._candidate(network, current)
        change = key_change(
            current,
            public_key,
            node_did=await self._caller.node_id(),
            at=iso_time(self._caller.clock.now()),
        )
        statement = sign_key_change(change, signer)
        # The statement can be used only with this candidate, so nothing is wrong if the answer to
        # the next request is lost.
        await self._change(network, {"action": "activate", "statement": statement.decode()})
        self._encryption.forget(network)
        return pin_of(await self._encryption.descriptor(network))

    def _owners_signer(self, network: NetworkId, wallet: WalletSource) -> StatementSigner:
        """Return the wallet or key of a network's owner (EN36)."""
        session = self._caller.session
        if network_of_owner(session.owner, network.name) != network:
            raise InvalidInput(
                "only the owner of an encryption network can replace its key",
                hint=f"ask {network.owner}",
            )
        signing = wallet()
        if signing is not None:
            return signing
        if session.did != session.owner:
            raise InvalidInput(
                "only the owner's wallet can sign for a network's key, not a session's key",
                hint="sign with the owner's wallet",
            )
        return session.signer

    async def _candidate(self, network: NetworkId, current: NetworkPin) -> bytes:
        """Ask the node for the candidate for the next key, and verify the answer."""
        nonce = encode_url(self._caller.entropy.token(MAX_NONCE_BYTES))
        answer = json_object(await self._change(network, {"action": "candidate", "nonce": nonce}))
        candidate = answer.get("candidate")
        if not isinstance(candidate, dict):
            raise MalformedAnswer("the node's response contains no candidate for a network's key")
        try:
            key_version, public_key = verify_candidate(
                candidate,
                answer.get(SIGNATURE_MEMBER),
                network=network.text,
                node_did=await self._caller.node_id(),
                nonce=nonce,
            )
        except DescriptorError as exc:
            raise ResponseSignatureInvalid(
                "the node's signature on the candidate for the network's key is not valid"
            ) from exc
        if key_version != current.key_version + 1:
            # Another rotation was faster. The next call reads the newest key first.
            self._encryption.forget(network)
            offered = NetworkPin(
                network=network.text, public_key=public_key, key_version=key_version
            )
            raise NetworkKeyChanged(current, offered)
        return public_key

    async def retire(self, network: NetworkId, key_version: int) -> NetworkKeys:
        """Have the node refuse new values that are sealed to a former key.

        Earlier values can still be opened, until the key is destroyed.

        Args:
            network: a network of the owner.
            key_version: version of the key; not the newest.
        Returns:
            The versions of the key.
        Raises:
            NodeRefused: the version is the newest, unknown or retired.
            SealspaceError: as `rotate`.
        """
        answer = await self._change(network, {"action": "retire", "keyVersion": key_version})
        return parse_network_keys(answer.body, network)

    async def destroy(self, network: NetworkId, key_version: int) -> NetworkKeys:
        """Destroy a former key that is retiring.

        Whatever is still sealed to it can never be opened again. Backups that the operator made
        before still contain the key.

        Raises:
            NodeRefused: the version is not retiring.
            SealspaceError: as `retire`.
        """
        answer = await self._change(network, {"action": "destroy", "keyVersion": key_version})
        return parse_network_keys(answer.body, network)

    async def usage(self, network: NetworkId, key_version: int) -> tuple[NeedingValue, ...]:
        """Return the values at this node that are sealed to a version of a network's key.

        These are current and former values in spaces of the owner. Values at other nodes are not
        found. Copies that others made for the owner are in their spaces; see
        `Sharing.received_folders`.

        Args:
            network: a network of the owner.
            key_version: the version.
        Raises:
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: as `Encryption.keys`.
        """

        async def ask(after: str | None) -> UsagePage:
            query = urlencode({"keyVersion": key_version, "after": after or ""})
            request = Request("GET", f"{network_path(network)}/usage?{query}", repeatable=True)
            answer = await administer(self._caller, network, SET_POLICY, request)
            return decoded(_USAGE_PAGE, answer, "a list of values")

        found: list[NeedingValue] = []
        async for page in read_pages(ask, attrgetter("after")):
            found += page.values
        return tuple(found)

    async def _change(self, network: NetworkId, body: JsonObject) -> Answer:
        """Send a request that changes the versions of a network's key."""
        request = json_request("POST", f"{network_path(network)}/keys", canonical_bytes(body))
        return await request_change(self._caller, network, request, KEYS_FACT, body)

    async def reencrypt(
        self,
        network: NetworkId,
        *,
        spaces: Collection[str] = (),
        progress: LookedAt | None = None,
    ) -> Reencrypted:
        """Seal the owner's values to the newest key of a network (EN39).

        Each value is opened and sealed on this machine with a new content key, and replaces only
        the value that was read. So the call can be interrupted at any time and repeated, and never
        overwrites another writer's value. It looks at the secrets, the notes and the contacts.
        Copies for other people are sealed to their keys, and stay as they are. Former versions of
        the values stay sealed to the former key.

        A value that does not state its place may have been copied there from another path. It is
        sealed again only if the node has recorded no other path with its content key.

        Args:
            network: a network of the owner.
            spaces: names of further spaces of the owner in which envelopes are stored.
            progress: called after each value.
        Returns:
            Numbers of values, and those that stay as they are.
        Raises:
            SealspaceError: as `Encryption.descriptor`, `Kv.list`, `Kv.get_many` and `Kv.put`; the
                values so far are sealed to the newest key.
        """
        newest = pin_of(await self._encryption.descriptor(network))
        places = [(kv, keys) async for kv, keys in self._places(spaces)]
        tally = _Tally(total=sum(len(keys) for _, keys in places), progress=progress)
        for kv, keys in places:
            for start in range(0, len(keys), _KEYS_IN_A_READ):
                await self._reencrypt_pack(kv, keys[start : start + _KEYS_IN_A_READ], newest, tally)
        return Reencrypted(
            sealed=tally.sealed,
            current=tally.current,
            other=tally.other,
            failed=tuple(tally.failed),
        )

    async def _reencrypt_pack(
        self, kv: Kv, keys: Sequence[str], newest: NetworkPin, tally: "_Tally"
    ) -> None:
        """Seal the values that one request reads to the newest key."""
        values = list((await _values(kv, keys)).items())
        # Values that were deleted meanwhile, or are too large, were looked at, too.
        tally.done += len(keys) - len(values)
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            outcomes = await _gathered(
                [self._reencrypt(kv, key, value, newest) for key, value in part]
            )
            for (key, _), outcome in zip(part, outcomes, strict=True):
                tally.add(key, outcome)

    async def _places(self, spaces: Collection[str]) -> AsyncIterator[tuple[Kv, Sequence[str]]]:
        """Yield the owner's spaces that may contain envelopes, each with the keys to look at."""
        prefixes = {SECRETS_SPACE: OWN_FOLDER, CONTACTS_SPACE: VAULT_PREFIX}
        prefixes.update(dict.fromkeys(spaces, ""))
        for name, prefix in prefixes.items():
            kv = Kv(self._caller, self._caller.session.own_space(name))
            try:
                keys = [key async for key in kv.list(prefix)]
            except SpaceNotFound:
                if name in spaces:
                    raise
                continue
            # Copies for other people are sealed to their keys.
            yield kv, [key for key in keys if not key.startswith(SHARED_PREFIX)]

    async def _reencrypt(self, kv: Kv, key: str, value: Value, newest: NetworkPin) -> str:
        """Seal one value to the newest key.

        Returns "sealed", "current", "other", or the reason why the value stays as it is.
        """
        for _ in range(_MOST_TRIES):
            envelope = _envelope_of(value, newest)
            if envelope is None:
                return "other"
            if envelope.key_version >= newest.key_version:
                return "current"
            sealed = await self._sealed_again(envelope, kv, key, value)
            if isinstance(sealed, str):
                return sealed
            try:
                await kv.put(
                    key,
                    envelope_bytes(sealed),
                    content_type=value.content_type,
                    metadata=value.metadata,
                    if_match=value.etag,
                )
                return "sealed"
            except PreconditionFailed:
                found = await _values(kv, [key])
                if key not in found:
                    return "other"  # it was deleted meanwhile
                value = found[key]
        return "other writers replace the value all the time"

    async def _sealed_again(
        self, envelope: InlineEnvelope, kv: Kv, key: str, value: Value
    ) -> InlineEnvelope | str:
        """Open an envelope and seal its content to the newest key.

        Returns the reason if the envelope cannot be opened, or may belong to another path.
        """
        try:
            plaintext = await self._encryption.decrypt(envelope)
        except (DecryptDenied, InvalidResponse) as error:
            return error.message
        except NodeFailure as error:
            if not error.text.startswith("key backend error"):
                raise
            return error.message
        if not _states_place(plaintext, kv, key):
            paths = await self._encryption.paths_of(envelope)
            reason = why_not_bound(paths, kv.space, key, size_bytes=len(value.body))
            if reason is not None:
                return f"the sealed value {reason}; store the right value again"
        sealed = await self._encryption.encrypt(plaintext, network=envelope.network)
        # Label and metadata are kept as they are, in their spelling.
        return replace(sealed, aad=envelope.aad, metadata=envelope.metadata)


@dataclass(slots=True)
class _Tally:
    """The numbers of values that were looked at.

    Attributes:
        total: number of all values.
        progress: called after each value.
        done: number of values that were looked at.
        sealed, current, other, failed: as in `Reencrypted`.
    """

    total: int
    progress: LookedAt | None
    done: int = 0
    sealed: int = 0
    current: int = 0
    other: int = 0
    failed: list[tuple[str, str]] = field(default_factory=list)

    def add(self, path: str, outcome: str) -> None:
        """Count one value."""
        if outcome == "sealed":
            self.sealed += 1
        elif outcome == "current":
            self.current += 1
        elif outcome == "other":
            self.other += 1
        else:
            self.failed.append((path, outcome))
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _states_place(plaintext: bytes, kv: Kv, key: str) -> bool:
    """Return whether a plaintext states the place where its envelope was found (EN45)."""
    try:
        return read_payload(plaintext, "", place=place_of(kv.space, key)).is_bound
    except (InvalidSecretPayload, PlaceMismatch):
        return False


def _envelope_of(value: Value, newest: NetworkPin) -> InlineEnvelope | None:
    """Return a value's envelope, or None if it is not one of the network."""
    try:
        envelope = parse_envelope(value.body, max_bytes=MAX_ENVELOPE_BYTES)
    except EnvelopeError:
        return None
    return envelope if envelope.network.text == newest.network else None


async def _values(kv: Kv, keys: Sequence[str]) -> dict[str, Value]:
    """Read values, without those that are missing, or too large for an envelope of a secret."""
    try:
        return await kv.get_many(keys, max_bytes=MAX_ENVELOPE_BYTES)
    except ValueTooLarge:
        pass
    found = {}
    for key in keys:
        try:
            found[key] = await kv.get(key, max_bytes=MAX_ENVELOPE_BYTES)
        except SpaceNotFound:
            raise
        except (ValueTooLarge, NotFound):
            continue
    return found


async def _gathered(calls: Sequence[Coroutine[None, None, str]]) -> list[str]:
    """Await calls concurrently; after an error, none of them goes on."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
