"""The audit: records of what happened, the hash chain over them, its export and its pruning."""
