"""What is stored: an ordered map of bytes (`store`), and what its rows mean.

Public modules: errors, expiry, identity, keyspace, lease, migrations, object_migration, walks; those of `values`,
`audit`, `documents`, `grants` and `store` are named there.
"""
