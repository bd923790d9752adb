"""What is kept: the store and the rooms that give its rows a meaning.

Public modules: audit, audit_chain, audit_export, blobs, delegations, errors, evidence, expiry, first_use, hosting,
identity, keyspace, listing, networks, quota, receipts, retention, revocations, sessions, tickets, values, withdrawals,
and `store` (contract, lmdb, migration, postgres, storekeeper).
"""
