"""Checks of the SDK that a client under test leaves out, by their names."""

from conformance_kit.line_faults import Fault

from sealspace.encryption import Encryption, verify_answer
from sealspace.secrets import Secrets
from sealspace.wire.caller import Caller

CLIENT_FAULTS = {
    "signature": Fault(
        name="an answer's signature is not verified",
        function=verify_answer,
        line="verify_ed25519(public_key, canonical_bytes(signed_members), signature)",
        instead="pass",
        group="client",
        asked="a signature by another key",
    ),
    "request": Fault(
        name="an answer may be about another request",
        function=verify_answer,
        line="if not is_same_type or answer_value != expected_value:",
        instead="if False:",
        group="client",
        asked="another request's hash",
    ),
    "type": Fault(
        name="an answer may be of another type",
        function=verify_answer,
        line='if answer.get("type") != RESULT_TYPE:',
        instead="if False:",
        group="client",
        asked="another type",
    ),
    "descriptor": Fault(
        name="a descriptor's signature is not verified",
        function=Encryption._fetch_descriptor,
        line="if SIGNATURE_MEMBER not in value:",
        instead="return descriptor\n    if SIGNATURE_MEMBER not in value:",
        group="client",
        asked="a descriptor that another key signed",
    ),
    "pin": Fault(
        name="a network's key may change",
        function=Encryption.descriptor,
        line="if pinned is not None and pinned != offered:",
        instead="if False:",
        group="client",
        asked="another key than before, which the node signed",
    ),
    "nonce": Fault(
        name="a nonce is used twice",
        function=Encryption._fetch_descriptor,
        line="nonce = encode_url(self._caller.entropy.token(MAX_NONCE_BYTES))",
        instead='nonce = "A" * 43',
        group="client requests",
        asked="nonces of descriptors",
    ),
    "lifetime": Fault(
        name="calls live for an hour",
        function=Caller.authorized,
        line="expires_at=self.clock.now() + ttl_s,",
        instead="expires_at=self.clock.now() + 3600,",
        group="client requests",
        asked="lifetimes of calls",
    ),
    "plaintext": Fault(
        name="an envelope has the value beside the ciphertext",
        function=Secrets._seal,
        line="metadata=VAULT_METADATA,",
        instead='metadata={"note": payload.decode()},',
        group="client requests",
        asked="the secret's value",
    ),
}
