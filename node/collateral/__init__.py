"""The node's collateral: its source, its import, and the queue of quotes to verify with it.

`tee_backend.attestation` verifies quotes; `spaces.documents.collateral_rows` defines the rows.
"""
