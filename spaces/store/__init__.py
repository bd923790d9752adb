"""An ordered map of bytes behind one contract.

Public modules: contract, lmdb, migration, postgres, postgres_promises, storekeeper. `migration`, `postgres` and
`postgres_promises` need the extra `postgres`.
"""
