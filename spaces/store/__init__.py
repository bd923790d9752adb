"""An ordered map of bytes behind one contract.

Public modules: contract, migration, watching; those of the engines are named in `lmdb` and `postgres`. `migration` and
`postgres` need the extra `postgres`.
"""
