"""The node's attestation quotes, root secret and operator secret."""
