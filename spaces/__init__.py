"""What is kept: the store and the rooms that give its rows a meaning.

Public modules: admissions, audit, audit_chain, audit_export, audit_pruning, blob_bucket, blob_files, blob_migration,
blob_place, blob_store, blobs, bodies, collateral, collector, delegations, errors, evidence, expiry, first_use, hosting,
identity, keyspace, lease, listing, long_paths, migrations, networks, quota, receipts, retention, revocations, sessions,
tickets, values, walks, withdrawals, and `store` (contract, lmdb, migration, postgres, postgres_promises, storekeeper).
"""
