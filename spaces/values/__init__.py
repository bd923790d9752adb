"""Values: heads, bodies, objects, listings, quotas."""
