"""Rows of one opaque document each: networks, evidence, receipts, withdrawals, collateral.

Their contents are defined by `encryption_network` and `tee_backend.attestation`.
"""
