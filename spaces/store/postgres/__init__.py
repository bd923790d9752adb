"""The engine on PostgreSQL, for nodes on several machines.

Modules:
    engine: opening and running a store in a database.
    promises: checks that a database keeps what the engine needs.
"""
