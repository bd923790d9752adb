"""The store engine for nodes that share a PostgreSQL database."""
