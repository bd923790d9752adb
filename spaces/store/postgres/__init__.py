"""The engine on PostgreSQL, for nodes on several machines."""
