"""Delegations, revocations, sessions, hosting, replay records."""
