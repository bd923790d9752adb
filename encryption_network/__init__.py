"""Encryption networks: keys, envelopes, policies, and the gate that decides whether a key is released.

Nothing here reads or writes a store: the rows are in `spaces.documents`. Quotes become evidence in `tee_backend`.

Modules:
    canonical_json: the one text of a value that is hashed and signed.
    envelope: inline envelopes: a payload under a wrapped content key.
    errors: the error tree of this package.
    evidence_record: evidence as it is stored.
    gate: the decision on a release, with its reasons.
    judgement: the judgement of evidence by a policy.
    key_providers: key providers of applications, in one text form.
    keyring: the root secret, and the keys derived from it.
    keywrap: wrapping a content key to an X25519 key.
    networks: the record of a network, and its public descriptor.
    policy: evidence and policies: their types and parsers.
    receipt: signed receipts of releases.
    release: opening and rewrapping a content key.
    release_facts: the records that the gate decides on.
    release_record: the terms of release of one store.
    requests: the steps that judge a request about a network.
    signed_descriptor: a network's key, signed by its node for a nonce.
    withdrawals: withdrawn code, backends and evidence.
"""
