"""An ordered map of bytes behind one contract.

Public modules: contract, lmdb, storekeeper.
"""
