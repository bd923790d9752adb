"""An ordered map of bytes behind one contract.

Public modules: contract, lmdb, migration, postgres, storekeeper. `migration` and `postgres` need the extra `postgres`.
"""
