"""Intel's attestation collateral and the verification of quotes with it; the keys of issuers.

`tee_backend.attestation` verifies quotes; `spaces.documents.collateral_rows` defines the rows.
"""
