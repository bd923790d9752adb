"""Authorization data: delegations, revocations, sessions, hosted spaces and replay records."""
