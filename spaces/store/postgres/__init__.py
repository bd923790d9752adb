"""The PostgreSQL store engine, for nodes on several machines that share a database."""
