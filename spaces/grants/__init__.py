"""Who may do what: delegations and what becomes of them, and which spaces are hosted.

Public modules: admissions, delegations, hosting, replay_records, retention, revocations, sessions.
"""
