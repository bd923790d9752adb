"""Rows of authority: delegations, revocations, sessions, hosted spaces, and replay records.

The rules that judge them are in `capabilities.chain`.

Modules:
    admissions: owners that the operator admitted (mode `permit`).
    delegations: registered delegations, and their decoded form in memory.
    hosting: which spaces exist.
    replay_records: tokens and nonces that were used (ST4).
    retention: bounds on kept delegations, and when one is removed.
    revocations: whether a delegation is live or revoked.
    sessions: sessions granted by an owner in person.
"""
