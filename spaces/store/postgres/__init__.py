"""The engine on PostgreSQL, for several machines.

Public modules: engine, promises.
"""
