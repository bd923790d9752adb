"""The source and the import of collateral, and the queue in which quotes are verified with it.

`tee_backend.attestation` verifies quotes; `spaces.documents.collateral_rows` defines the rows.
"""
