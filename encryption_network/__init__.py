"""Encryption networks: keys, envelopes, policies, and the gate that decides whether a key is
released.

Nothing here reads or writes a store: the rows are in `spaces.documents`. Quotes become evidence in
`tee_backend`.
"""
