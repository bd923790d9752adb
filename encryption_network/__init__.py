"""Encryption networks: keys, envelopes, policies, and the gate that decides on releasing a key.

The package does not access the store: `spaces.documents` reads and writes the rows. `tee_backend`
turns quotes into evidence.
"""
