"""Encryption networks: keys, envelopes, policies, and key-release decisions.

The package does not access the store: `spaces.documents` reads and writes the rows. `tee_backend`
turns quotes into evidence.
"""
