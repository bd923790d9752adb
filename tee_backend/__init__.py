"""Turning quotes into evidence, and being a backend that proves itself.

Public modules: backend, and in `attestation`: collateral, errors, judgement, quote, report_data, verify; in
`evidence`: simulated.
"""
