"""Turning quotes into evidence, and being a backend that proves itself.

Public modules: backend, inspection, node_verifier, publishing; those of `attestation` (what a node does with a quote)
and `evidence` (where a backend gets one), named there.
"""
