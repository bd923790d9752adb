"""Rows of authority: delegations, revocations, sessions, hosted spaces, and replay records.

The rules that judge them are in `capabilities.chain`.
"""
