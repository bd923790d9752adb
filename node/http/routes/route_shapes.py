"""JSON body types that are used only to generate `/openapi.json`.

Other packages parse and write these bodies. Tests compare responses with the description, and send
requests that match it.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from capabilities.strict_json import StrictStruct
from encryption_network.key_versions import KeyState
from encryption_network.networks import NetworkState

_Hex = Annotated[str, Meta(pattern="^([0-9a-f][0-9a-f])*$")]
_Base64 = Annotated[str, Meta(pattern="^[A-Za-z0-9+/]*={0,2}$")]


class Threshold(StrictStruct):
    """The number of nodes that are needed to use a network's key.

    Of n nodes that have the key, t are needed.
    """

    n: int = 1
    t: int = 1


class NetworkRequest(msgspec.Struct, rename="camel"):
    """A request to create an encryption network."""

    name: Annotated[str, Meta(pattern="^[a-z0-9][a-z0-9-]*$")]
    owner_did: str
    threshold: Threshold = msgspec.field(default_factory=Threshold)


class NetworkMember(msgspec.Struct, rename="camel"):
    """A node that has the key of an encryption network."""

    node_id: str
    role: str


class FlatNetwork(msgspec.Struct, rename="camel", kw_only=True):
    """The response body of an encryption network's well-known URL."""

    network_id: str
    owner_did: str
    name: str
    alg: str
    key_version: int
    public_encryption_key: _Base64
    state: NetworkState
    key_backend: str


class Network(FlatNetwork, rename="camel", kw_only=True):
    """The descriptor of an encryption network."""

    members: tuple[NetworkMember, ...]
    threshold: Threshold
    created_at: str
    updated_at: str


class Described(msgspec.Struct):
    """A response with the descriptor of an encryption network."""

    descriptor: Network


class DescribedOnRequest(Described, rename="camel", omit_defaults=True):
    """The descriptor of an encryption network, with an optional signature.

    The node signs the response if the request contains a nonce.
    """

    node_signature: str = ""


class NetworkKey(msgspec.Struct, rename="camel", kw_only=True):
    """A version of an encryption network's key."""

    key_version: int
    public_encryption_key: _Base64
    state: KeyState
    created_at: str
    changed_at: str


class NetworkKeys(msgspec.Struct, rename="camel", kw_only=True):
    """The versions of an encryption network's key, and the owner's statements about them."""

    network_id: str
    keys: tuple[NetworkKey, ...]
    statements: tuple[str, ...]


class Candidate(msgspec.Struct, rename="camel", kw_only=True):
    """A candidate for the next version of an encryption network's key."""

    key_version: int
    public_encryption_key: _Base64
    alg: str


class ChangedKeys(msgspec.Struct, rename="camel", kw_only=True):
    """The response to a change of the versions of an encryption network's key.

    A request for a candidate is answered with the candidate and a signature, every other request
    with the versions of the key.
    """

    candidate: Candidate | UnsetType = UNSET
    node_signature: _Base64 | UnsetType = UNSET
    network_id: str | UnsetType = UNSET
    keys: tuple[NetworkKey, ...] | UnsetType = UNSET
    statements: tuple[str, ...] | UnsetType = UNSET


class Released(msgspec.Struct, rename="camel", kw_only=True):
    """A signed response that contains a wrapped content key."""

    type: str
    target_node: str
    network_id: str
    invocation_cid: str
    encrypted_symmetric_key_hash: _Hex
    receiver_public_key_hash: _Hex
    wrapped_key: _Base64
    alg: str
    key_version: int
    request_hash: _Hex
    node_id: str
    node_signature: _Base64


class Withdrawal(StrictStruct):
    """A request to withdraw trust in code, a backend or evidence.

    Exactly one member is set.
    """

    measurement: Annotated[str, Meta(pattern="^([0-9a-f]{96}|[0-9a-f]{64})$")] | UnsetType = UNSET
    did: Annotated[str, Meta(max_length=512)] | UnsetType = UNSET
    evidence: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")] | UnsetType = UNSET
