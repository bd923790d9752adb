"""Identifiers, tokens, signatures and the rules of delegation chains.

The package is pure: no I/O and no clock. Registered delegations, revocations and replay records
are state: `spaces.grants` stores them, and callers pass them in.
"""
