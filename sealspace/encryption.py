"""Encryption networks: seal values to one, ask the node to wrap a value's key anew, keep and end
networks.

Sealing needs no permission; opening goes through the node, which judges authority and, except for
the owner in person, the code of the caller. The content key reaches this process wrapped to a
receiver key; the payload never leaves it in the clear.

Example:
    network = client.encryption.network()
    envelope = await client.encryption.encrypt(b"secret", network=network)
    assert await client.encryption.decrypt(envelope) == b"secret"
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from capabilities.abilities import DECRYPT, NETWORK_CREATE, NETWORK_REVOKE, SET_POLICY
from capabilities.capability_errors import CapabilityError
from capabilities.clock_and_entropy import Entropy
from capabilities.facts import POLICY_FACT, WITHDRAWAL_FACT
from capabilities.principals import ed25519_public_key, parse_principal
from capabilities.resources import NetworkId
from capabilities.signatures import verify_ed25519
from capabilities.strict_base64 import decode_standard, encode_standard, encode_url
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_hash
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
from encryption_network.networks import ALGORITHM, Descriptor, parse_descriptor
from encryption_network.pins import NetworkPin, pin_of
from encryption_network.policy import Policy, parse_policy, policy_json
from encryption_network.requests import (
    RESULT_TYPE,
    admin_fact,
    change_fact,
    decrypt_body_json,
    decrypt_fact,
    request_hash,
)
from encryption_network.signed_descriptor import (
    MAX_NONCE_BYTES,
    SIGNATURE_MEMBER,
    verify_descriptor,
)
from encryption_network.withdrawals import parse_withdrawal

from ._node_errors import about_network
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
    ResponseBindingMismatch,
    ResponseSignatureInvalid,
    Unauthorized,
)
from .session import DEFAULT_NETWORK, capability, network_of_owner, token_cid
from .wire.caller import Caller
from .wire.node_answers import json_object
from .wire.transport import Answer, Request, json_request, path_segment

_ECHOED = (
    "targetNode",
    "networkId",
    "alg",
    "keyVersion",
    "encryptedSymmetricKeyHash",
    "receiverPublicKeyHash",
)


def decrypt_body(
    envelope: InlineEnvelope, *, target_node: str, receiver_public_key: bytes
) -> dict[str, Json]:
    """Make the body of the request for an envelope's content key, wrapped to this X25519 key; its
    answer echoes it."""
    return decrypt_body_json(
        envelope.network.text,
        target_node=target_node,
        alg=envelope.alg,
        key_version=envelope.key_version,
        encrypted_symmetric_key=envelope.encrypted_symmetric_key,
        receiver_public_key=receiver_public_key,
    )


def verify_answer(
    answer: Mapping[str, Json], body: dict[str, Json], *, invocation_cid: str
) -> bytes:
    """Check a node's answer to a decrypt request and return the key in it, still wrapped.

    Args:
        answer: the JSON object of the answer, untrusted.
        body: the body of the request that was sent.
        invocation_cid: id of the token that was sent, computed here and not by the node.
    Returns:
        The wrapped content key; it was signed by the node the request names, for this request and
        no other.
    Raises:
        InvalidResponse: another type, or the wrapped key is no base64.
        ResponseBindingMismatch: a member belongs to another request; `field` names it.
        ResponseSignatureInvalid: the signature does not verify under the DID the answer names.
    Does not check:
        That the node's DID is the right one: `encryption` pins it. That the key opens.
    Source: enc 3.7.
    """
    if answer.get("type") != RESULT_TYPE:
        raise InvalidResponse("the node's answer is not a decrypt result")
    # String equality: a node echoes the canonical id of the network.
    expected: dict[str, Json] = {member: body[member] for member in _ECHOED}
    expected["nodeId"] = body["targetNode"]
    expected["invocationCid"] = invocation_cid
    expected["requestHash"] = request_hash(invocation_cid, canonical_hash(body))
    for member, value in expected.items():
        given = answer.get(member)
        # 1 == True == 1.0 in Python; the types have to agree as well.
        if type(given) is not type(value) or given != value:
            raise ResponseBindingMismatch(member)
    _verify_signature(answer, node_did=str(body["targetNode"]))
    wrapped_key = decode_standard(answer.get("wrappedKey"))
    if wrapped_key is None:
        raise InvalidResponse("the node's answer holds no wrapped key")
    return wrapped_key


def _verify_signature(answer: Mapping[str, Json], *, node_did: str) -> None:
    """The signature covers every member but itself, unknown ones included."""
    public_key = ed25519_public_key(node_did)
    signature = decode_standard(answer.get("nodeSignature"))
    if public_key is None or signature is None or len(signature) != 64:
        raise ResponseSignatureInvalid("the node's signature cannot be read")
    signed = {member: value for member, value in answer.items() if member != "nodeSignature"}
    try:
        verify_ed25519(public_key, canonical_bytes(signed), signature)
    except (CapabilityError, NetworkLibraryError) as exc:
        raise ResponseSignatureInvalid(
            "the node's signature over its answer does not verify"
        ) from exc


class Withdrawals:
    """Withdrawals by the owner; made by `Client.withdrawals`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def withdraw_measurement(
        self, measurement: bytes, network: NetworkId | None = None
    ) -> None:
        """Withdraw code: a register of 48 bytes (MRTD, RTMR0 to RTMR3, MRSEAM), or a compose hash
        of 32.

        Raises:
            SealspaceError: as `withdraw_backend`.
        """
        await self._withdraw({"measurement": measurement.hex()}, network)

    async def withdraw_backend(self, did: str, network: NetworkId | None = None) -> None:
        """Withdraw a backend, with every delegation that it signed or received.

        Args:
            did: the backend's.
            network: None: the default network of the owner for whom this session acts.
        Raises:
            InvalidInput: nothing that can be withdrawn; the owner's own DID cannot.
            NotGranted: the session does not hold `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError.
        """
        await self._withdraw({"did": did}, network)

    async def withdraw_evidence(self, sha256: bytes, network: NetworkId | None = None) -> None:
        """Withdraw one piece of evidence, named as session, audit and receipts name it; 32 bytes.

        Raises:
            SealspaceError: as `withdraw_backend`.
        """
        await self._withdraw({"evidence": sha256.hex()}, network)

    async def _withdraw(self, value: dict[str, Json], network: NetworkId | None) -> None:
        wanted = network or network_of_owner(self._caller.session.owner)
        try:
            entry = parse_withdrawal(value)
        except WithdrawalError as exc:
            raise InvalidInput(
                f"nothing that can be withdrawn: {exc.text}",
                hint="a DID, 96 or 64 hex digits of a measurement, a digest",
            ) from exc
        if parse_principal(wanted.owner) in entry.dids:
            raise InvalidInput(
                "an owner's own DID cannot be withdrawn", hint="revoke the network instead"
            )
        request = json_request("POST", f"{_network_path(wanted)}/withdraw", canonical_bytes(value))
        await _change(self._caller, wanted, request, WITHDRAWAL_FACT, value)


_USABLE_STATES = frozenset({"active", "rotating"})
_MOST_ANSWERED_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ReceiverKey:
    """An X25519 key pair that a content key is wrapped to; made by `new_receiver_key`.

    Attributes:
        private_key: 32 bytes.
        public_key: 32 bytes.
    """

    private_key: bytes = field(repr=False)
    public_key: bytes


def new_receiver_key(entropy: Entropy) -> ReceiverKey:
    """Return a fresh key pair; asks for 32 random bytes."""
    private_key = entropy.token(32)
    return ReceiverKey(private_key, public_key_of(private_key))


class Encryption:
    """The encryption networks of a node, with the session's authority; made by
    `Client.encryption`."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._descriptors: dict[str, Descriptor] = {}

    def network(self, name: str = DEFAULT_NETWORK, *, owner: str | None = None) -> NetworkId:
        """Return the id of a network.

        Args:
            name: its name.
            owner: DID of its owner; None: the owner for whom this session acts.
        Raises:
            InvalidInput: no DID, or no name of a network.
        """
        return network_of_owner(owner or self._caller.session.owner, name)

    async def descriptor(self, network: NetworkId) -> Descriptor:
        """Return what the node says about a network; kept until a request on it is refused.

        The key is pinned in the session (`Client.session`, kept with it): another one is refused
        later (EN30). Where the client demands evidence of the node, that is demanded here as well.

        Returns:
            The descriptor; its id is the one asked for, and the node that this client talks to
            signed it, for a nonce drawn here, unless the client takes unsigned ones.
        Raises:
            NetworkNotFound: there is no such network here.
            NetworkKeyChanged: this session was given another key before; see `accept`.
            DescriptorUnsigned, ResponseSignatureInvalid: the node did not sign this answer.
            NodeMismatch: the descriptor names another node.
            NodeEvidenceRefused, MalformedAnswer, TransportError.
        """
        await self._caller.transport.check_node()  # AT45: sealing sends no token
        descriptor = self._descriptors.get(network.text)
        if descriptor is None:
            descriptor = await self._asked(network)
        session, offered = self._caller.signed_in, pin_of(descriptor)
        # else there is nothing to keep it in but this client, which asks once
        if session is not None:
            pinned = session.pin_of(network)
            if pinned is not None and pinned != offered:  # EN30
                self._descriptors.pop(network.text, None)
                raise NetworkKeyChanged(pinned, offered)
            self._caller.session = session.with_pin(offered)
        self._descriptors[network.text] = descriptor
        return descriptor

    def accept(self, pin: NetworkPin) -> None:
        """Pin this key for a network from now on, in place of the one that the session pinned
        before.

        Args:
            pin: `NetworkKeyChanged.offered`, once it is known why the key changed; or a key learnt
                in another way.
        Raises:
            RuntimeError: no session is signed in.
        """
        self._descriptors.pop(pin.network, None)
        self._caller.session = self._caller.session.with_pin(pin)

    async def ensure_network(self, name: str = DEFAULT_NETWORK) -> Descriptor:
        """Return the owner's network of this name, created if it does not exist.

        Raises:
            NotGranted: the session may not create networks.
            NetworkNotActive: it was revoked; its name stays taken.
            SealspaceError: as `descriptor`, whose result is returned: the answer to creating it is
                not trusted.
        """
        network = self.network(name)
        try:
            descriptor = await self.descriptor(network)
        except NetworkNotFound:
            await self._create(network)
            descriptor = await self.descriptor(network)
        _require_usable(descriptor)
        return descriptor

    async def revoke_network(self, network: NetworkId) -> None:
        """Revoke a network: nothing sealed to it can be opened through the node any more, for ever.

        Raises:
            NotGranted: the session does not hold `tinycloud.encryption/network.revoke` on it.
            NetworkNotFound: there is none.
        """
        node_id = await self._caller.node_id()
        fact = admin_fact(network.text, target_node=node_id, action=NETWORK_REVOKE, body={})
        self._descriptors.pop(network.text, None)
        await _administer(
            self._caller,
            network,
            NETWORK_REVOKE,
            Request("POST", f"{_network_path(network)}/revoke"),
            fact,
        )

    async def policy(self, network: NetworkId) -> Policy | None:
        """Return what the owner of a network states about code; None where nothing is stated.

        Raises:
            NotGranted: the session does not hold `sealspace.encryption/policy` on the network.
            MalformedAnswer: no policy.
            NetworkNotFound, Unauthorized, NodeRefused, TransportError: as each says.
        """
        request = Request("GET", f"{_network_path(network)}/policy", repeatable=True)
        value = json_object(await _administer(self._caller, network, SET_POLICY, request))
        if value.keys() != {"policy"}:
            raise MalformedAnswer("the node's answer is no policy of a network")
        try:
            return None if value["policy"] is None else parse_policy(value["policy"])
        except NetworkLibraryError as exc:
            raise MalformedAnswer("the node's answer is no policy of a network") from exc

    async def set_policy(self, network: NetworkId, policy: Policy | None) -> None:
        """State what code may receive keys of a network, in place of what was stated before; in
        force at once.

        The owner does this in person: with a grant that the wallet signed to this session
        (`Delegations.add_right`), or with the key that owns the network.

        Args:
            network: of the owner.
            policy: None takes away what was stated.
        Raises:
            NotGranted: the session does not hold `sealspace.encryption/policy` on the network.
            Unauthorized: the session is not its owner in person.
            NetworkNotFound, NodeRefused, TransportError.
        """
        value: Json = None if policy is None else policy_json(policy)
        request = json_request("PUT", f"{_network_path(network)}/policy", canonical_bytes(value))
        await _change(self._caller, network, request, POLICY_FACT, value)

    async def encrypt(
        self,
        plaintext: bytes,
        *,
        network: NetworkId,
        label: bytes | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> InlineEnvelope:
        """Seal a payload to a network, in this process; needs no authority.

        Args:
            plaintext: the payload.
            network: whose holders of decrypt shall read it.
            label: carried along in the clear, authenticated by nothing; `decrypt` can compare it.
            metadata: likewise.
        Raises:
            NetworkNotFound, NetworkNotActive, NodeMismatch. NetworkKeyChanged, DescriptorUnsigned,
            ResponseSignatureInvalid, NodeEvidenceRefused: see `descriptor`. InvalidResponse: the
            node's public key cannot be sealed to (low order).
        """
        descriptor = await self.descriptor(network)
        _require_usable(descriptor)
        try:
            return seal_envelope(
                descriptor, plaintext, self._caller.entropy, aad=label, metadata=metadata
            )
        except NetworkLibraryError as exc:
            raise InvalidResponse("the network's public key cannot be sealed to") from exc

    async def decrypt(
        self,
        envelope: InlineEnvelope | bytes,
        *,
        expected_label: bytes | None = None,
        receiver: ReceiverKey | None = None,
    ) -> bytes:
        """Open a sealed payload with the node's help.

        Args:
            envelope: an envelope or its JSON text.
            expected_label: the label the envelope must carry; None: any.
            receiver: the key to have the content key wrapped to; None: a fresh one. A backend
                passes the key that it attested.
        Returns:
            The payload; every member of the node's answer was checked before anything was opened
            (enc 3.7).
        Raises:
            InvalidEnvelope: it cannot be read.
            LabelMismatch: it carries another label.
            NotGranted, DecryptDenied: no authority, or the gate requires evidence.
            NetworkNotFound, NetworkNotActive, NodeMismatch. NetworkKeyChanged, DescriptorUnsigned:
            see `descriptor`. ResponseBindingMismatch, ResponseSignatureInvalid, InvalidResponse:
            the answer cannot be trusted.
        """
        try:
            read = envelope if isinstance(envelope, InlineEnvelope) else parse_envelope(envelope)
        except NetworkLibraryError as exc:
            raise InvalidEnvelope(f"not an inline envelope: {exc}") from exc
        if expected_label is not None and read.aad != encode_standard(expected_label):
            raise LabelMismatch("the envelope was sealed for another place")
        descriptor = await self.descriptor(read.network)
        _require_usable(descriptor)
        receiver = receiver or new_receiver_key(self._caller.entropy)
        body = decrypt_body(
            read, target_node=await self._caller.node_id(), receiver_public_key=receiver.public_key
        )
        wrapped_key = await self._ask(body, read.network)
        try:
            return open_envelope(read, open_wrapped(receiver.private_key, wrapped_key))
        except NetworkLibraryError as exc:
            raise InvalidResponse(
                "local decryption failed: the key or the ciphertext does not open"
            ) from exc

    async def _ask(self, body: dict[str, Json], network: NetworkId) -> bytes:
        """Have a content key wrapped anew; return it wrapped, out of an answer that was checked."""
        sent: list[str] = []
        asked = await self._caller.authorized(
            replace(
                json_request("POST", f"{_network_path(network)}/decrypt", canonical_bytes(body)),
                repeatable=True,
                max_answer_bytes=_MOST_ANSWERED_BYTES,
            ),
            [capability(network.text, DECRYPT)],
            facts=[decrypt_fact(body)],
            minted=sent.append,
        )
        try:
            with about_network(network.text):
                value = json_object(await self._caller.transport.require(asked))
        except NetworkNotFound:
            self._descriptors.pop(network.text, None)
            raise
        except Unauthorized as exc:
            self._descriptors.pop(network.text, None)
            if exc.text == "network has been revoked":
                raise NetworkNotActive("revoked") from exc
            raise DecryptDenied(exc) from exc
        return verify_answer(value, body, invocation_cid=token_cid(sent[-1]))

    async def _create(self, network: NetworkId) -> None:
        node_id = await self._caller.node_id()
        body: dict[str, Json] = {
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
            # Another session of the same owner was faster; the descriptor is read back.
            if exc.text != "network already exists":
                raise

    async def _asked(self, network: NetworkId) -> Descriptor:
        """Ask the node for a descriptor with a fresh nonce, and check it."""
        nonce = encode_url(self._caller.entropy.token(MAX_NONCE_BYTES))
        path = f"{_network_path(network)}?nonce={nonce}"
        request = Request("GET", path, repeatable=True, max_answer_bytes=_MOST_ANSWERED_BYTES)
        # first: another node is not one that lacks the network
        node_id = await self._caller.node_id()
        with about_network(network.text):
            value = json_object(await self._caller.transport.require(request))
        try:
            descriptor = parse_descriptor(value)
        except NetworkLibraryError as exc:
            raise MalformedAnswer("the node's descriptor cannot be read") from exc
        if descriptor.network_id != network:
            raise MalformedAnswer("the node described another network")
        if descriptor.alg != ALGORITHM:
            raise MalformedAnswer("the network uses an algorithm that this client does not know")
        if descriptor.node_did != node_id:
            raise NodeMismatch(
                f"the network's keys are opened by {descriptor.node_did}, this node is {node_id}"
            )
        # EN29; one that is present has to verify, whatever the program accepts
        if SIGNATURE_MEMBER not in value:
            if self._caller.unsigned_descriptors:
                return descriptor
            raise DescriptorUnsigned(f"the node did not sign the key of {network.text}")
        try:
            return verify_descriptor(
                descriptor, value[SIGNATURE_MEMBER], node_did=node_id, nonce=nonce
            )
        except NetworkLibraryError as exc:
            raise ResponseSignatureInvalid(
                "the node's signature over the network's key does not verify"
            ) from exc


def envelope_bytes(envelope: InlineEnvelope) -> bytes:
    """Return an envelope as it is stored.

    Raises:
        InvalidInput: a label is not Unicode.
    """
    try:
        return encode_envelope(envelope)
    except NetworkLibraryError as exc:
        raise InvalidInput("the envelope's labels cannot be written") from exc


def _require_usable(descriptor: Descriptor) -> None:
    if descriptor.state not in _USABLE_STATES:
        raise NetworkNotActive(descriptor.state)


async def _administer(
    caller: Caller, network: NetworkId, ability: str, request: Request, *facts: dict[str, Json]
) -> Answer:
    """Return the success of a request with one right on a network; raises NetworkNotFound."""
    asked = await caller.authorized(request, [capability(network.text, ability)], facts=facts)
    with about_network(network.text):
        return await caller.transport.require(asked)


async def _change(
    caller: Caller, network: NetworkId, request: Request, fact_type: str, body: Json
) -> None:
    """Make a request that changes what the owner states about a network, bound to its body."""
    fact = change_fact(fact_type, network.text, target_node=await caller.node_id(), body=body)
    await _administer(caller, network, SET_POLICY, request, fact)


def _network_path(network: NetworkId) -> str:
    return f"/encryption/networks/{path_segment(network.text)}"
