"""Keys, envelopes and the release gate.

Public modules: canonical_json, envelope, errors, evidence_record, gate, judgement, key_providers, keyring, keywrap,
networks, policy, receipt, release, release_facts, release_record, requests, signed_descriptor, withdrawals.
"""
