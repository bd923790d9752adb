"""Values of spaces: heads, inline bodies, objects in files or a bucket, listings, quotas, signed-URL tickets.

What a request may do to a value is judged in `node.operations.values`.

Modules:
    collector: removing objects that no head refers to.
    held_bodies: the bodies of one moment, kept while a backup or a check reads them.
    listing: paths of a space under a prefix, in pages.
    long_paths: index rows that keep listings of long paths short.
    object_bucket: objects in an S3 bucket.
    object_folder: objects as files.
    object_place: which place of objects a store is bound to.
    object_records: names and reference counts of objects.
    object_store: the contract of a place of objects.
    quota: how many bytes a space contains, and its limit.
    tickets: rows of signed URLs.
    value_bodies: bodies in transit into a space.
    value_heads: heads of values, with small bodies inline.
"""
