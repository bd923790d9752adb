"""Turning quotes into evidence, and being a backend that proves itself.

Public modules: backend, grant_rates, held_grants, inspection, node_verifier, publishing, receipt_check; those of
`attestation` (what a node does with a quote) and `evidence` (where a backend gets one), named there.
"""
