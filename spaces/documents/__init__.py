"""Rows that contain opaque documents, such as receipts.

Their contents are defined by `encryption_network` and `tee_backend.attestation`.
"""
