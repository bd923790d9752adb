"""Rows about authority: delegations, revocations, sessions, hosted spaces and replay records."""
