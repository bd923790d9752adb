"""What is kept: the store and the rooms that give its rows a meaning.

Public modules: audit, blobs, delegations, errors, evidence, first_use, hosting, identity, keyspace, listing, networks,
quota, revocations, sessions, values, and `store` (contract, lmdb, storekeeper).
"""
