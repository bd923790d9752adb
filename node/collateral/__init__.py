"""Collateral of the node: its source, its intake, and the queue of quotes that are verified with
it.

How a quote is judged is `tee_backend.attestation`; the rows are `spaces.documents.collateral_rows`.
"""
