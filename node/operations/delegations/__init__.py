"""Use cases of delegations: register, revoke, report."""
