"""Rows that each contain one opaque document, such as attestation evidence or a receipt.

Their contents are defined by `encryption_network` and `tee_backend.attestation`.
"""
