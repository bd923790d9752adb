"""Re-encryption of content keys for their receivers.

This is the last step of a decrypt request. Only this module wraps content keys for receivers;
`content_keys` opens them too, for their hashes.

Example:
    answer = open_key(permit, keyring=keyring, entropy=entropy)  # after the commit is durable
"""

from capabilities.clock_and_entropy import Entropy
from capabilities.strict_base64 import encode_standard
from capabilities.strict_json import JsonObject

from .canonical_json import canonical_members
from .gate import ReleasePermit
from .keyring import Keyring
from .keywrap import open_wrapped, wrap
from .networks import private_key
from .requests import RESULT_TYPE


def open_key(permit: ReleasePermit, *, keyring: Keyring, entropy: Entropy) -> JsonObject:
    """Re-encrypt the requested content key for its receiver.

    Args:
        permit: created by `gate.admit`; contains the request and the network.
        keyring: of the node that the request names.
        entropy: called for 32 bytes (the ephemeral scalar), then for 12 (the nonce).
    Returns:
        The signed answer (enc 2.7). It contains the key only in wrapped form.
    Raises:
        RequestError: the wrapped key does not open to 32 bytes (row 22), or the receiver key is not
            32 bytes or is of low order (row 23).
        RuntimeError: the keyring belongs to another node.
    Does not check:
        That the commit with the audit record succeeded; the caller calls this after it.
    """
    decrypt = permit.decrypt
    body, network = decrypt.bound.body.stated, decrypt.network
    if keyring.node_did != body.target_node:
        raise RuntimeError("the request is for another node")
    # The version that the request names, which may be a former one (EN35).
    scalar = private_key(network, keyring, key_version=body.key_version)
    content_key = open_wrapped(scalar, decrypt.wrapped_key)  # row 22
    wrapped = wrap(decrypt.receiver_public_key, content_key, entropy)  # row 23
    answer: dict[str, str | int] = {
        "type": RESULT_TYPE,
        "targetNode": keyring.node_did,
        "networkId": network.network_id.text,
        "invocationCid": decrypt.invocation_cid,
        "encryptedSymmetricKeyHash": body.encrypted_symmetric_key_hash,
        "receiverPublicKeyHash": body.receiver_public_key_hash,
        "wrappedKey": encode_standard(wrapped),
        "alg": network.alg,
        "keyVersion": body.key_version,
        "requestHash": decrypt.request_hash,
        "nodeId": keyring.node_did,
    }
    signature = encode_standard(keyring.node_signer.sign(canonical_members(answer)))  # row 24
    return {**answer, "nodeSignature": signature}
