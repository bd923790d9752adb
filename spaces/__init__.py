"""What is stored: an ordered map of bytes (`store`), and what its rows mean.

Public modules: errors, expiry, identity, keyspace, lease, walks; those of `values`, `audit`, `documents`, `grants`,
`store` and `migrations` are named there.
"""
