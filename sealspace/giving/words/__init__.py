"""Plain words for rights, manifests, runs, policies and backends."""
