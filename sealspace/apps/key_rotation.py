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
    await client.network_keys.destroy(network, 1, wallet=lambda: wallet)
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Literal, NamedTuple
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

from ..documents.key_statements import (
    key_change,
    read_key_changes,
    sign_key_change,
    sign_key_end,
)
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
"""Called with the number of values that were looked at so far, and the number of all values."""

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
    """A value that is sealed to a former key, or that may be.

    Attributes:
        space: id of the space.
        path: path of the value.
        version: number of a former value that is kept; None for the current value.
        is_unreadable: the value is missing or damaged in the node's store, so the node cannot tell
            whether the value is sealed to the key.
    """

    space: str
    path: str
    version: int | None
    is_unreadable: bool = msgspec.field(name="isUnreadable", default=False)


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

        Three claims of the node are compared: its list of versions, the owner's statements about
        the versions from 2 on, and the newest version in the descriptor that the node signed. The
        times and the states in the list are the node's alone. Statements from before the node got
        a new identity name its former identity (RK9).

        Returns:
            The versions as listed, at least one.
        Raises:
            NetworkKeyChanged: the owner's statements do not lead from version 1 to the newest
                version. An invalid statement is reported so too, because the owner has not signed
                the newest key.
            SealspaceError: the same errors as `Encryption.descriptor` and `Encryption.keys`.
        """
        newest_pin = pin_of(await self._encryption.descriptor(network))
        listed = await self._encryption.keys(network)
        listed_pins = [key.pin(network.text) for key in listed.keys]
        first_pin = listed_pins[0]
        statements = [statement.encode() for statement in listed.statements]
        node_did = await self._caller.node_id()
        try:
            changes = read_key_changes(first_pin, statements, network=network, node_did=node_did)
        except StatementInvalid as exc:
            raise NetworkKeyChanged(pinned=first_pin, offered=newest_pin) from exc
        signed_pins = [first_pin]
        for change in changes:
            signed_pins.append(change.pin)
        if signed_pins != listed_pins:
            raise NetworkKeyChanged(pinned=signed_pins[-1], offered=newest_pin)
        if listed_pins[-1] != newest_pin:
            raise NetworkKeyChanged(pinned=listed_pins[-1], offered=newest_pin)
        return listed

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
            SealspaceError: the same errors as `Encryption.descriptor`.
        """
        signer = self._require_owners_signer(network, wallet)
        descriptor = await self._encryption.descriptor(network)
        require_usable(descriptor)
        current_pin = pin_of(descriptor)
        candidate_key = await self._fetch_candidate(network, current_pin)
        change = key_change(
            current_pin,
            candidate_key,
            node_did=await self._caller.node_id(),
            at=iso_time(self._caller.clock.now()),
        )
        statement = sign_key_change(change, signer)
        # The statement can be used only with this candidate. So the call can be repeated if the
        # answer to this request is lost.
        await self._post_change(network, {"action": "activate", "statement": statement.decode()})
        self._encryption.forget(network)
        return pin_of(await self._encryption.descriptor(network))

    def _require_owners_signer(self, network: NetworkId, wallet: WalletSource) -> StatementSigner:
        """Return the wallet or the own key of a network's owner (EN36).

        A session's key is refused: a stolen session must not install a key.
        """
        session = self._caller.session
        is_owners_network = network_of_owner(session.owner, network.name) == network
        if not is_owners_network:
            raise InvalidInput(
                "only the owner of an encryption network can replace or destroy its key",
                hint=f"ask {network.owner}",
            )
        owners_wallet = wallet()
        if owners_wallet is not None:
            return owners_wallet
        if session.did != session.owner:
            raise InvalidInput(
                "only the owner's wallet can sign for a network's key, not a session's key",
                hint="sign with the owner's wallet",
            )
        return session.signer

    async def _fetch_candidate(self, network: NetworkId, current: NetworkPin) -> bytes:
        """Have the node make a candidate for the next key, and verify its signature on it.

        Returns the public key, 32 bytes. Its version follows the current one.
        """
        nonce = encode_url(self._caller.entropy.token(MAX_NONCE_BYTES))
        request_body: JsonObject = {"action": "candidate", "nonce": nonce}
        answer = json_object(await self._post_change(network, request_body))
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
            # Another rotation was faster. The descriptor is forgotten, so the next call reads the
            # newest key first.
            self._encryption.forget(network)
            candidate_pin = NetworkPin(
                network=network.text, public_key=public_key, key_version=key_version
            )
            raise NetworkKeyChanged(pinned=current, offered=candidate_pin)
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
            SealspaceError: the same errors as `rotate`.
        """
        answer = await self._post_change(network, {"action": "retire", "keyVersion": key_version})
        return parse_network_keys(answer.body, network)

    async def destroy(
        self, network: NetworkId, key_version: int, *, wallet: WalletSource = lambda: None
    ) -> NetworkKeys:
        """Destroy a former key that is retiring.

        Whatever is still sealed to it can never be opened again. Backups that the operator made
        before still contain the key. The owner signs, as for a new key.

        Args:
            network: a network of the owner.
            key_version: version of the key.
            wallet: returns the owner's wallet, or None if the session's key is the owner's own. It
                signs once.
        Raises:
            InvalidInput: the wallet is missing, or is not the owner's; the network has no such
                version.
            NodeRefused: the version is not retiring.
            SealspaceError: the same errors as `retire`.
        """
        signer = self._require_owners_signer(network, wallet)
        listed = await self._encryption.keys(network)
        pins = [key.pin(network.text) for key in listed.keys if key.key_version == key_version]
        if not pins:
            raise InvalidInput(
                f"the network has no such version of its key: {key_version}",
                hint=f"list the versions: sealspace network show {network.name}",
            )
        statement = sign_key_end(
            pins[0],
            signer,
            node_did=await self._caller.node_id(),
            at=iso_time(self._caller.clock.now()),
        )
        request: JsonObject = {
            "action": "destroy",
            "keyVersion": key_version,
            "statement": statement.decode(),
        }
        answer = await self._post_change(network, request)
        return parse_network_keys(answer.body, network)

    async def usage(self, network: NetworkId, key_version: int) -> tuple[NeedingValue, ...]:
        """Return the values at this node that are sealed to a version of a network's key.

        These are current and former values in spaces of the owner, and those that the node cannot
        read. Do not destroy the key before these are restored or deleted. Values at other nodes
        are not found. Copies that others made for the owner are in their spaces; see
        `Sharing.received_folders`.

        Args:
            network: a network of the owner.
            key_version: the version.
        Raises:
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            MalformedAnswer: the list does not advance or has no end.
            SealspaceError: the same errors as `Encryption.keys`.
        """

        async def fetch_page(after: str | None) -> UsagePage:
            query = urlencode({"keyVersion": key_version, "after": after or ""})
            request = Request("GET", f"{network_path(network)}/usage?{query}", repeatable=True)
            answer = await administer(self._caller, network, SET_POLICY, request)
            return decoded(_USAGE_PAGE, answer, "a list of values")

        values: list[NeedingValue] = []
        async for page in read_pages(fetch_page, attrgetter("after")):
            values += page.values
        return tuple(values)

    async def _post_change(self, network: NetworkId, body: JsonObject) -> Answer:
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
            SealspaceError: the same errors as `Encryption.descriptor`, `Kv.list`, `Kv.get_many` and
                `Kv.put`; the values so far are sealed to the newest key.
        """
        newest_pin = pin_of(await self._encryption.descriptor(network))
        listings = [listing async for listing in self._list_spaces(spaces)]
        value_count = sum(len(listing.keys) for listing in listings)
        tally = _Tally(total=value_count, progress=progress)
        for listing in listings:
            for start in range(0, len(listing.keys), _KEYS_IN_A_READ):
                batch_keys = listing.keys[start : start + _KEYS_IN_A_READ]
                await self._reencrypt_batch(listing.kv, batch_keys, newest_pin, tally)
        return Reencrypted(
            sealed=tally.sealed,
            current=tally.current,
            other=tally.other,
            failed=tuple(tally.failed),
        )

    async def _reencrypt_batch(
        self, kv: Kv, keys: Sequence[str], newest: NetworkPin, tally: "_Tally"
    ) -> None:
        """Read the values of some keys with one request, and seal them to the newest key."""
        values = await _read_values(kv, keys)
        # Values that were deleted meanwhile, or are too large, count as looked at.
        tally.done += len(keys) - len(values)
        read_keys = list(values)
        for start in range(0, len(read_keys), _AT_ONCE):
            concurrent_keys = read_keys[start : start + _AT_ONCE]
            calls = [self._reencrypt(kv, key, values[key], newest) for key in concurrent_keys]
            outcomes = await _await_all(calls)
            for key, outcome in zip(concurrent_keys, outcomes, strict=True):
                tally.add(key, outcome)

    async def _list_spaces(self, spaces: Collection[str]) -> AsyncIterator["_Listing"]:
        """List the owner's values that may be envelopes, space by space.

        The spaces of secrets and contacts may be missing, but not those that the caller named.
        """
        prefix_by_space = {SECRETS_SPACE: OWN_FOLDER, CONTACTS_SPACE: VAULT_PREFIX}
        for space in spaces:
            prefix_by_space[space] = ""  # all values
        for space, prefix in prefix_by_space.items():
            kv = Kv(self._caller, self._caller.session.own_space(space))
            try:
                keys = [key async for key in kv.list(prefix)]
            except SpaceNotFound:
                if space in spaces:
                    raise
                continue
            # Copies for other people are sealed to their keys.
            own_keys = [key for key in keys if not key.startswith(SHARED_PREFIX)]
            yield _Listing(kv=kv, keys=own_keys)

    async def _reencrypt(self, kv: Kv, key: str, value: Value, newest: NetworkPin) -> "_Outcome":
        """Seal one value to the newest key, unless another writer replaces it all the time."""
        for _ in range(_MOST_TRIES):
            envelope = _parse_envelope_of(value, newest)
            if envelope is None:
                return "other"
            if envelope.key_version >= newest.key_version:
                return "current"
            new_envelope = await self._seal_again(envelope, kv, key, value)
            if isinstance(new_envelope, _Failure):
                return new_envelope
            try:
                await kv.put(
                    key,
                    envelope_bytes(new_envelope),
                    content_type=value.content_type,
                    metadata=value.metadata,
                    if_match=value.etag,
                )
            except PreconditionFailed:
                present_value = (await _read_values(kv, [key])).get(key)
                if present_value is None:
                    return "other"  # it was deleted meanwhile
                value = present_value
            else:
                return "sealed"
        return _Failure("other writers replace the value all the time")

    async def _seal_again(
        self, envelope: InlineEnvelope, kv: Kv, key: str, value: Value
    ) -> "InlineEnvelope | _Failure":
        """Open an envelope, and seal its content to the newest key.

        Returns a failure if the envelope cannot be opened, or may belong to another path.
        """
        try:
            plaintext = await self._encryption.decrypt(envelope)
        except (DecryptDenied, InvalidResponse) as error:
            return _Failure(error.message)
        except NodeFailure as error:
            # The node refuses this value alone. Any other failure concerns all values.
            is_about_this_value = error.text.startswith("key backend error")
            if not is_about_this_value:
                raise
            return _Failure(error.message)
        if not _states_place(plaintext, kv, key):
            stored_paths = await self._encryption.paths_of(envelope)
            reason = why_not_bound(stored_paths, kv.space, key, size_bytes=len(value.body))
            if reason is not None:
                return _Failure(f"the sealed value {reason}; store the right value again")
        new_envelope = await self._encryption.encrypt(plaintext, network=envelope.network)
        # Label and metadata keep their spelling.
        return replace(new_envelope, aad=envelope.aad, metadata=envelope.metadata)


class _Listing(NamedTuple):
    """A space, and the keys of its values that may be envelopes."""

    kv: Kv
    keys: Sequence[str]


class _Failure(NamedTuple):
    """The reason why a value stays as it is, for people."""

    reason: str


_Outcome = Literal["sealed", "current", "other"] | _Failure
"""What became of a value: it was sealed to the newest key, it was sealed to that key before, it is
not an envelope of the network, or it stays as it is."""


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

    def add(self, path: str, outcome: _Outcome) -> None:
        """Count one value."""
        match outcome:
            case "sealed":
                self.sealed += 1
            case "current":
                self.current += 1
            case "other":
                self.other += 1
            case _Failure(reason):
                self.failed.append((path, reason))
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, self.total)


def _states_place(plaintext: bytes, kv: Kv, key: str) -> bool:
    """Return whether a plaintext states the place where its envelope was found (EN45)."""
    try:
        return read_payload(plaintext, "", place=place_of(kv.space, key)).is_bound
    except (InvalidSecretPayload, PlaceMismatch):
        return False


def _parse_envelope_of(value: Value, newest: NetworkPin) -> InlineEnvelope | None:
    """Parse a value as an envelope of the network; None if it is something else."""
    try:
        envelope = parse_envelope(value.body, max_bytes=MAX_ENVELOPE_BYTES)
    except EnvelopeError:
        return None
    return envelope if envelope.network.text == newest.network else None


async def _read_values(kv: Kv, keys: Sequence[str]) -> dict[str, Value]:
    """Read values, without those that are missing, or too large for an envelope of a secret."""
    try:
        return await kv.get_many(keys, max_bytes=MAX_ENVELOPE_BYTES)
    except ValueTooLarge:
        pass  # One is too large, so each is read by itself.
    values = {}
    for key in keys:
        try:
            values[key] = await kv.get(key, max_bytes=MAX_ENVELOPE_BYTES)
        except SpaceNotFound:
            raise  # It is a NotFound, but concerns all values.
        except (ValueTooLarge, NotFound):
            continue
    return values


async def _await_all(calls: Sequence[Coroutine[None, None, _Outcome]]) -> list[_Outcome]:
    """Await calls concurrently. If one raises an error, the others are cancelled."""
    tasks = [asyncio.create_task(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
