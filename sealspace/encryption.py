"""Methods for encrypting data and managing encryption networks.

Sealing needs no permission. Opening goes through the node, which checks the caller's rights and,
except for the owner in person, the caller's code. The node wraps the content key for a receiver
key of this process; the plaintext never leaves the process.

Example:
    network = client.encryption.network()
    envelope = await client.encryption.encrypt(b"secret", network=network)
    assert await client.encryption.decrypt(envelope) == b"secret"
"""

from collections.abc import Mapping
from dataclasses import field, replace
from typing import Annotated, NamedTuple

from msgspec import Meta

from capabilities.abilities import DECRYPT, NETWORK_CREATE, NETWORK_REVOKE, SET_POLICY
from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import Entropy
from capabilities.facts import POLICY_FACT, WITHDRAWAL_FACT
from capabilities.frozen import frozen
from capabilities.principals import parse_principal
from capabilities.resources import NetworkId
from capabilities.strict_base64 import decode_standard, encode_standard, encode_url
from capabilities.strict_json import Json, JsonObject, StrictStruct, shaped
from encryption_network.canonical_json import canonical_bytes
from encryption_network.envelope import (
    InlineEnvelope,
    encode_envelope,
    open_envelope,
    parse_envelope,
    seal_envelope,
)
from encryption_network.keywrap import open_wrapped, public_key_of
from encryption_network.network_errors import EncryptionError as NetworkLibraryError
from encryption_network.network_errors import WithdrawalError
from encryption_network.networks import (
    ALGORITHM,
    FIRST_KEY_VERSION,
    Descriptor,
    parse_descriptor,
)
from encryption_network.pins import NetworkPin, pin_of
from encryption_network.policy import Policy, parse_policy, policy_json
from encryption_network.requests import (
    admin_fact,
    decrypt_body_json,
    decrypt_fact,
)
from encryption_network.signed_descriptor import (
    MAX_NONCE_BYTES,
    SIGNATURE_MEMBER,
    verify_descriptor,
)
from encryption_network.withdrawals import parse_withdrawal

from ._node_errors import about_network
from .documents.key_statements import follow_key_changes
from .documents.network_keys import MAX_KEYS_BYTES, NetworkKeys, parse_network_keys
from .errors import (
    DecryptDenied,
    DescriptorUnsigned,
    DuplicateRequest,
    InvalidEnvelope,
    InvalidInput,
    InvalidResponse,
    LabelMismatch,
    MalformedAnswer,
    NetworkKeyChanged,
    NetworkNotActive,
    NetworkNotFound,
    NodeMismatch,
    ResponseSignatureInvalid,
    StatementInvalid,
    Unauthorized,
)
from .session import DEFAULT_NETWORK, capability, network_of_owner, token_cid
from .wire.caller import Caller
from .wire.key_answers import verify_answer as verify_answer
from .wire.network_requests import administer, network_path, request_change
from .wire.node_answers import json_object
from .wire.transport import Request, json_request


def decrypt_body(
    envelope: InlineEnvelope, *, target_node: str, receiver_public_key: bytes
) -> JsonObject:
    """Create the JSON body of a decrypt request.

    The node re-encrypts the envelope's content key to the given public key, an X25519 key of 32
    bytes.
    """
    return decrypt_body_json(
        envelope.network.text,
        target_node=target_node,
        alg=envelope.alg,
        key_version=envelope.key_version,
        encrypted_symmetric_key=envelope.encrypted_symmetric_key,
        receiver_public_key=receiver_public_key,
    )


class Withdrawals:
    """Methods for withdrawing trust in backends.

    Use `Client.withdrawals` to get an instance.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def withdraw_measurement(
        self, measurement: bytes, network: NetworkId | None = None
    ) -> None:
        """Stop the release of keys to code with a given measurement.

        Args:
            measurement: a register of 48 bytes (MRTD, RTMR0 to RTMR3, MRSEAM), or a compose hash of
                32.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            SealspaceError: the same errors as `withdraw_backend`.
        """
        await self._withdraw({"measurement": measurement.hex()}, network)

    async def withdraw_backend(self, did: str, network: NetworkId | None = None) -> None:
        """Withdraw trust in a backend and in its delegations.

        These are all delegations that were signed by the backend or issued to it.

        Args:
            did: DID of the backend.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            InvalidInput: the value cannot be withdrawn, such as the owner's own DID.
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError: the request failed.
        """
        await self._withdraw({"did": did}, network)

    async def withdraw_evidence(self, sha256: bytes, network: NetworkId | None = None) -> None:
        """Withdraw trust in one piece of attestation evidence.

        The node no longer accepts the evidence.

        Args:
            sha256: digest of the evidence, 32 bytes, as in sessions, audit records and receipts.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            SealspaceError: the same errors as `withdraw_backend`.
        """
        await self._withdraw({"evidence": sha256.hex()}, network)

    async def _withdraw(self, value: JsonObject, network: NetworkId | None) -> None:
        """Sign and send an entry of the list of withdrawn backends."""
        chosen = network or network_of_owner(self._caller.session.owner)
        try:
            entry = parse_withdrawal(value)
        except WithdrawalError as exc:
            raise InvalidInput(
                f"the entry to withdraw is not valid: {exc.text}",
                hint="pass a DID, a measurement of 48 or 32 bytes, or a digest of 32 bytes",
            ) from exc
        if parse_principal(chosen.owner) in entry.dids:
            raise InvalidInput(
                "trust in the owner's own DID cannot be withdrawn",
                hint="revoke the network instead",
            )
        request = json_request("POST", f"{network_path(chosen)}/withdraw", canonical_bytes(value))
        await request_change(self._caller, chosen, request, WITHDRAWAL_FACT, value)


class _KeyPaths(StrictStruct):
    """The node's answer about the paths of a content key."""

    paths: Annotated[tuple[str | None, ...], Meta(max_length=2)]


_USABLE_STATES = frozenset({"active", "rotating"})
_MOST_ANSWERED_BYTES = 64 * 1024
_DESCRIPTOR_AGE_S = 300.0
"""How long a descriptor is cached, seconds. After that, a new version of the key is noticed."""


@frozen
class ReceiverKey:
    """An X25519 key pair for receiving a content key from the node.

    The node encrypts the content key for the public key. Create a pair with `new_receiver_key`.

    Attributes:
        private_key: 32 bytes.
        public_key: 32 bytes.
    """

    private_key: bytes = field(repr=False)
    public_key: bytes


def new_receiver_key(entropy: Entropy) -> ReceiverKey:
    """Return a fresh X25519 key pair."""
    private_key = entropy.token(32)
    return ReceiverKey(private_key, public_key_of(private_key))


class _Cached(NamedTuple):
    """A descriptor, and when it was fetched, epoch seconds."""

    descriptor: Descriptor
    fetched_at: float


class _KnownKey(NamedTuple):
    """What a client knows about the key of a network.

    Attributes:
        descriptor: the cached descriptor; None if it is too old, or there is none.
        pinned: the key that was used last; None before the first use.
    """

    descriptor: Descriptor | None
    pinned: NetworkPin | None


class Encryption:
    """Methods for encrypting and decrypting data.

    Use `Client.encryption` to get an instance.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._descriptors: dict[str, _Cached] = {}

    def network(self, name: str = DEFAULT_NETWORK, *, owner: str | None = None) -> NetworkId:
        """Return the id of an encryption network.

        Args:
            name: name of the network.
            owner: DID of its owner; None: the owner for whom this session acts.
        Raises:
            InvalidNetworkId: the owner is not a DID, or the name is not valid.
            NotSignedIn: no owner is given, and no session is signed in.
        """
        return network_of_owner(owner or self._caller.session.owner, name)

    async def descriptor(self, network: NetworkId) -> Descriptor:
        """Return the descriptor of an encryption network.

        The descriptor contains the network's public key. It is cached for five minutes, or until a
        request for the network is refused. The key is pinned in `Client.session`: a different key
        is rejected later, unless the network's owner signed that it replaces the pinned one (EN30).
        A client with `require_node_evidence` verifies the node's evidence first.

        Returns:
            The descriptor of the requested network, signed by this client's node for a fresh nonce,
            unless the client accepts unsigned ones.
        Raises:
            NetworkNotFound: the network does not exist on this node.
            NetworkKeyChanged: the session pinned another key, which the owner did not replace; see
                `accept`.
            DescriptorUnsigned, ResponseSignatureInvalid: the node's signature is missing or not
                valid.
            NodeMismatch: the descriptor names another node.
            NodeEvidenceRefused, MalformedAnswer, TransportError: a request or its check failed.
        """
        # Other requests verify the node before they send a token. Sealing sends none (AT45).
        await self._caller.transport.check_node()
        descriptor, pinned = self._known_key(network)
        if descriptor is None:
            descriptor = await self._fetch_descriptor(network)
        offered = pin_of(descriptor)
        if pinned is not None and pinned != offered:
            self._descriptors.pop(network.text, None)
            await self.require_later_key(network, pinned, offered)
        # A pin is stored in the session. Without one, only this client's cache has the key.
        if self._caller.signed_in is not None:
            self._caller.session = self._caller.signed_in.with_pin(offered)
        if network.text not in self._descriptors:
            self._descriptors[network.text] = _Cached(descriptor, self._caller.clock.now())
        return descriptor

    def _known_key(self, network: NetworkId) -> _KnownKey:
        """Return what this client and its session know about a network's key."""
        cached = self._descriptors.get(network.text)
        descriptor = None
        pinned = None
        if cached is not None:
            pinned = pin_of(cached.descriptor)
            age_s = self._caller.clock.now() - cached.fetched_at
            if 0 <= age_s < _DESCRIPTOR_AGE_S:  # the age is negative after the clock was set back
                descriptor = cached.descriptor
            else:
                del self._descriptors[network.text]
        session = self._caller.signed_in
        if session is not None:
            pinned = session.pin_of(network)
        return _KnownKey(descriptor=descriptor, pinned=pinned)

    async def require_later_key(
        self, network: NetworkId, pinned: NetworkPin, offered: NetworkPin
    ) -> None:
        """Check that a network's owner replaced a known key by another one (EN30).

        Each version between them needs a statement that the owner's wallet or own key signed.

        Args:
            network: the network.
            pinned: the known key.
            offered: the key that the node sent now.
        Raises:
            NetworkKeyChanged: the owner's statements do not lead from the one to the other.
            MalformedAnswer, NodeRefused, TransportError: the statements cannot be fetched.
        """
        if offered.key_version <= pinned.key_version:
            raise NetworkKeyChanged(pinned, offered)
        try:
            keys = await self.keys(network)
            newest = follow_key_changes(
                pinned,
                [statement.encode() for statement in keys.statements],
                network=network,
                node_did=await self._caller.node_id(),
            )
        except (NetworkNotFound, StatementInvalid) as exc:
            raise NetworkKeyChanged(pinned, offered) from exc
        if newest != offered:
            raise NetworkKeyChanged(pinned, offered)

    async def keys(self, network: NetworkId) -> NetworkKeys:
        """Return the versions of a network's key, and the owner's statements about them.

        The answer is not signed by the node. The statements are signed by the network's owner;
        `require_later_key` verifies them.

        Raises:
            NetworkNotFound: the network does not exist on this node.
            MalformedAnswer: the answer is not a list of keys of this network.
            NodeRefused, TransportError: the request failed.
        """
        request = Request(
            "GET",
            f"{network_path(network)}/keys",
            repeatable=True,
            max_answer_bytes=MAX_KEYS_BYTES,
        )
        with about_network(network.text):
            answer = await self._caller.transport.require(request)
        return parse_network_keys(answer.body, network)

    def forget(self, network: NetworkId) -> None:
        """Fetch the network's descriptor again when it is needed next.

        The pinned key stays pinned.
        """
        self._descriptors.pop(network.text, None)

    def accept(self, pin: NetworkPin) -> None:
        """Trust a given public key of an encryption network.

        The session pins the key, which replaces any key pinned earlier.

        Args:
            pin: `NetworkKeyChanged.offered`, once it is clear why the key changed; or a key that
                was learnt in another way.
        Raises:
            NotSignedIn: no session is signed in.
        """
        self._descriptors.pop(pin.network, None)
        self._caller.session = self._caller.session.with_pin(pin)

    async def ensure_network(self, name: str = DEFAULT_NETWORK) -> Descriptor:
        """Create an encryption network unless it exists.

        Returns the descriptor of the owner's network with this name.

        Raises:
            NotGranted: the session may not create networks.
            NetworkNotActive: the network was revoked; its name cannot be used again.
            SealspaceError: the same errors as `descriptor`, which fetches the result after the
                network was created.
        """
        network = self.network(name)
        try:
            descriptor = await self.descriptor(network)
        except NetworkNotFound:
            await self._create(network)
            descriptor = await self.descriptor(network)
        require_usable(descriptor)
        return descriptor

    async def _create(self, network: NetworkId) -> None:
        """Create an encryption network, or leave it as it is if it exists by now."""
        node_id = await self._caller.node_id()
        body: JsonObject = {
            "name": network.name,
            "ownerDid": network.owner,
            "threshold": {"n": 1, "t": 1},
        }
        fact = admin_fact(network.text, target_node=node_id, action=NETWORK_CREATE, body=body)
        request = json_request("POST", "/encryption/networks", canonical_bytes(body))
        wanted = [capability(network.text, NETWORK_CREATE)]
        try:
            await self._caller.transport.require(
                await self._caller.authorized(request, wanted, facts=[fact])
            )
        except DuplicateRequest as exc:
            # Another session of the same owner created it first. The status also means that the
            # token was used before, which is an error.
            if exc.text != "network already exists":
                raise

    async def revoke_network(self, network: NetworkId) -> None:
        """Revoke an encryption network permanently.

        The node no longer opens data sealed to it.

        Raises:
            NotGranted: the session does not have `tinycloud.encryption/network.revoke` on it.
            NetworkNotFound: the network does not exist on this node.
        """
        fact = admin_fact(
            network.text, target_node=await self._caller.node_id(), action=NETWORK_REVOKE, body={}
        )
        # If the answer is lost, the network may be revoked all the same. So its descriptor is
        # dropped first, and fetched again when it is needed.
        self._descriptors.pop(network.text, None)
        await administer(
            self._caller,
            network,
            NETWORK_REVOKE,
            Request("POST", f"{network_path(network)}/revoke"),
            fact,
        )

    async def policy(self, network: NetworkId) -> Policy | None:
        """Return an encryption network's attestation policy, or None.

        Raises:
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            MalformedAnswer: the answer is not a policy.
            NetworkNotFound, Unauthorized, NodeRefused, TransportError: the request failed.
        """
        request = Request("GET", f"{network_path(network)}/policy", repeatable=True)
        value = json_object(await administer(self._caller, network, SET_POLICY, request))
        if value.keys() != {"policy"}:
            raise MalformedAnswer("the node's response does not contain a valid network policy")
        try:
            return None if value["policy"] is None else parse_policy(value["policy"])
        except NetworkLibraryError as exc:
            raise MalformedAnswer(
                "the node's response does not contain a valid network policy"
            ) from exc

    async def set_policy(self, network: NetworkId, policy: Policy | None) -> None:
        """Replace an encryption network's attestation policy.

        The new policy applies immediately. Only the owner in person may do this: with a grant that
        the wallet signed to this session (`Delegations.add_right`), or with the key that owns the
        network.

        Args:
            network: a network of the owner.
            policy: None removes the policy.
        Raises:
            NotGranted: the session does not have `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError: the request failed.
        """
        value: Json = None if policy is None else policy_json(policy)
        request = json_request("PUT", f"{network_path(network)}/policy", canonical_bytes(value))
        await request_change(self._caller, network, request, POLICY_FACT, value)

    async def encrypt(
        self,
        plaintext: bytes,
        *,
        network: NetworkId,
        label: bytes | None = None,
        metadata: Mapping[str, str] | None = None,
        key: bytes | None = None,
        key_version: int = FIRST_KEY_VERSION,
    ) -> InlineEnvelope:
        """Encrypt data with an encryption network's public key.

        The data is encrypted in this process, and no rights are needed.

        Args:
            plaintext: the data.
            network: the network whose holders of decrypt can open it.
            label: stored unencrypted and unauthenticated; `decrypt` can compare it.
            metadata: stored unencrypted and unauthenticated.
            key: public key of the network, which the owner has verified; None: the node is asked.
            key_version: version of `key`.
        Raises:
            NetworkNotActive: the network was revoked.
            InvalidResponse: the network's public key is not usable (low order).
            SealspaceError: the same errors as `descriptor`.
        """
        if key is None:
            descriptor = await self.descriptor(network)
            require_usable(descriptor)
        else:
            descriptor = Descriptor(
                network_id=network,
                public_key=key,
                state="active",
                alg=ALGORITHM,
                key_version=key_version,
                node_did=None,
            )
        try:
            return seal_envelope(
                descriptor, plaintext, self._caller.entropy, aad=label, metadata=metadata
            )
        except NetworkLibraryError as exc:
            raise InvalidResponse("the network's public key is not usable") from exc

    async def decrypt(
        self,
        envelope: InlineEnvelope | bytes,
        *,
        expected_label: bytes | None = None,
        receiver: ReceiverKey | None = None,
    ) -> bytes:
        """Decrypt an envelope with the help of the node.

        The node rewraps the content key. The data is decrypted in this process.

        Args:
            envelope: an envelope or its JSON text.
            expected_label: label that the envelope must have; None: any.
            receiver: key pair for which the node wraps the content key; None: a fresh one. A
                backend passes the pair that it attested.
        Returns:
            The plaintext. Every member of the node's answer was checked before anything was opened.
        Raises:
            InvalidEnvelope: the envelope cannot be read.
            LabelMismatch: the envelope has another label.
            NotGranted: the session does not have decrypt on the network.
            DecryptDenied: the node does not release the key.
            NetworkNotActive: the network was revoked.
            ResponseBindingMismatch, ResponseSignatureInvalid, InvalidResponse: the answer cannot be
                trusted.
            SealspaceError: the same errors as `descriptor`.
        """
        parsed = _require_parsed(envelope)
        if expected_label is not None and parsed.aad != encode_standard(expected_label):
            raise LabelMismatch("the envelope was sealed for another path")
        require_usable(await self.descriptor(parsed.network))
        receiver = receiver or new_receiver_key(self._caller.entropy)
        body = decrypt_body(
            parsed,
            target_node=await self._caller.node_id(),
            receiver_public_key=receiver.public_key,
        )
        wrapped_key = await self._ask(body, parsed.network)
        try:
            return open_envelope(parsed, open_wrapped(receiver.private_key, wrapped_key))
        except NetworkLibraryError as exc:
            raise InvalidResponse(
                "local decryption failed: the key or the ciphertext is damaged"
            ) from exc

    async def paths_of(self, envelope: InlineEnvelope | bytes) -> tuple[str | None, ...]:
        """Return the paths that have stored an envelope's content key.

        Only the owner in person learns them. The first path owns the key. If there is a second
        one, the node releases the key to nobody else until the value is encrypted again.

        Args:
            envelope: an envelope or its JSON text.
        Returns:
            At most two resources, such as `tinycloud:pkh:eip155:1:0x…:secrets/kv/vault/…`, the
            first path first. None stands for a path of more than 400 bytes whose value was deleted.
        Raises:
            InvalidEnvelope: the envelope cannot be read.
            NotGranted: the session does not have decrypt on the network.
            Unauthorized: the session is not its owner in person.
            MalformedAnswer: the answer cannot be read.
            NetworkNotFound, NodeRefused, TransportError: the request failed.
        """
        parsed = _require_parsed(envelope)
        wrapped_key = decode_standard(parsed.encrypted_symmetric_key) or b""
        path = f"{network_path(parsed.network)}/paths?key={encode_url(wrapped_key)}"
        request = Request("GET", path, repeatable=True, max_answer_bytes=_MOST_ANSWERED_BYTES)
        answer = json_object(await administer(self._caller, parsed.network, DECRYPT, request))
        try:
            return shaped(answer, _KeyPaths).paths
        except InvalidJson as exc:
            raise MalformedAnswer("the node's list of paths cannot be read") from exc

    async def _ask(self, body: JsonObject, network: NetworkId) -> bytes:
        """Ask the node to wrap a content key for a receiver's public key.

        Verifies the response, and returns the wrapped key.
        """
        # Each attempt sends a token of its own. The response has to be about the last one.
        tokens: list[str] = []
        request = await self._caller.authorized(
            replace(
                json_request("POST", f"{network_path(network)}/decrypt", canonical_bytes(body)),
                repeatable=True,
                max_answer_bytes=_MOST_ANSWERED_BYTES,
            ),
            [capability(network.text, DECRYPT)],
            facts=[decrypt_fact(body)],
            minted=tokens.append,
        )
        try:
            with about_network(network.text):
                value = json_object(await self._caller.transport.require(request))
        except NetworkNotFound:
            self._descriptors.pop(network.text, None)
            raise
        except Unauthorized as exc:
            self._descriptors.pop(network.text, None)
            if exc.text == "network has been revoked":
                raise NetworkNotActive("revoked") from exc
            raise DecryptDenied(exc) from exc
        return verify_answer(value, body, invocation_cid=token_cid(tokens[-1]))

    async def _fetch_descriptor(self, network: NetworkId) -> Descriptor:
        """Fetch and verify the descriptor of an encryption network.

        The request has a fresh nonce, and the node signs the response.
        """
        nonce = encode_url(self._caller.entropy.token(MAX_NONCE_BYTES))
        request = Request(
            "GET",
            f"{network_path(network)}?nonce={nonce}",
            repeatable=True,
            max_answer_bytes=_MOST_ANSWERED_BYTES,
        )
        # The node is checked before the request: at the wrong node, "no such network" would be the
        # wrong error.
        node_id = await self._caller.node_id()
        with about_network(network.text):
            value = json_object(await self._caller.transport.require(request))
        try:
            descriptor = parse_descriptor(value)
        except NetworkLibraryError as exc:
            raise MalformedAnswer("the node's descriptor cannot be read") from exc
        if descriptor.network_id != network:
            raise MalformedAnswer("the node sent the description of a different network")
        if descriptor.alg != ALGORITHM:
            raise MalformedAnswer(
                "the encryption network uses an algorithm that this client does not know"
            )
        if descriptor.node_did != node_id:
            raise NodeMismatch(
                f"the network belongs to {descriptor.node_did}, but this node is {node_id}"
            )
        # A signature that is present is verified, even if unsigned descriptors are accepted (EN29).
        if SIGNATURE_MEMBER not in value:
            if self._caller.unsigned_descriptors:
                return descriptor
            raise DescriptorUnsigned(
                f"the node did not sign the response that contains the public key of {network.text}"
            )
        try:
            return verify_descriptor(
                descriptor, value[SIGNATURE_MEMBER], node_did=node_id, nonce=nonce
            )
        except NetworkLibraryError as exc:
            raise ResponseSignatureInvalid(
                "the node's signature on the network's key is not valid"
            ) from exc


def envelope_bytes(envelope: InlineEnvelope) -> bytes:
    """Encode an envelope as JSON for storage.

    Raises:
        InvalidInput: a label or metadata text is not valid Unicode.
    """
    try:
        return encode_envelope(envelope)
    except NetworkLibraryError as exc:
        raise InvalidInput("the envelope's label or metadata is not valid Unicode") from exc


def _require_parsed(envelope: InlineEnvelope | bytes) -> InlineEnvelope:
    """Return an envelope that a caller passed as an object or as JSON.

    Raises InvalidEnvelope if it cannot be read.
    """
    if isinstance(envelope, InlineEnvelope):
        return envelope
    try:
        return parse_envelope(envelope)
    except NetworkLibraryError as exc:
        raise InvalidEnvelope(f"the value is not an inline envelope: {exc}") from exc


def require_usable(descriptor: Descriptor) -> None:
    """Raise NetworkNotActive if nothing should be sealed to a network."""
    if descriptor.state not in _USABLE_STATES:
        raise NetworkNotActive(descriptor.state)
