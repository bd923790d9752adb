"""The audit log: its records, the hash chain over them, its export and its pruning."""
