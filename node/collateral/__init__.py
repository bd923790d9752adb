"""Intel's attestation collateral, and the verification of quotes with it.

`tee_backend.attestation` verifies quotes; `spaces.documents.collateral_rows` defines the rows.
"""
