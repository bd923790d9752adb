"""Values: their heads and bodies, the objects of large bodies, listings, quotas, signed URLs.

Public modules: collector, listing, long_paths, object_bucket, object_folder, object_place, object_records,
object_store, quota, tickets, value_bodies, value_heads.
"""
