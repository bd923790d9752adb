"""Encryption networks with their keys, envelopes and policies, and the gate that releases keys.

The package does not access the store: `spaces.documents` reads and writes the rows. `tee_backend`
turns quotes into evidence.
"""
