"""Fetching and importing collateral, and the queue that verifies quotes with it.

`tee_backend.attestation` verifies quotes; `spaces.documents.collateral_rows` defines the rows.
"""
