"""What is kept: the store and the rooms that give its rows a meaning.

Public modules: audit, audit_chain, audit_export, blob_files, blobs, bodies, collector, delegations, errors, evidence,
expiry, first_use, hosting, identity, keyspace, lease, listing, networks, quota, receipts, retention, revocations,
sessions, tickets, values, withdrawals, and `store` (contract, lmdb, migration, postgres, storekeeper).
"""
