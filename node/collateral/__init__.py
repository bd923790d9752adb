"""Intel's collateral: fetching and importing it, and verifying quotes with it.

`tee_backend.attestation` verifies quotes; `spaces.documents.collateral_rows` defines the rows.
"""
