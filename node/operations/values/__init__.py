"""Use cases of values: get, put, list, delete, public values, signed URLs, quotas."""
