"""The engine on PostgreSQL, for several machines."""
