"""Encryption networks: keys, envelopes, policies, and decisions to release keys.

The package does not access the store: `spaces.documents` reads and writes the rows. `tee_backend`
turns quotes into evidence.
"""
