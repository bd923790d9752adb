"""Operations on values: get, put, list, delete, public values, signed URLs, quotas and admissions.

Modules:
    admin_quota: usage and limits of spaces, for the operator.
    admission: admitting and removing owners.
    conditions: option headers: preconditions and limits.
    kv_batch: several values in one token.
    kv_commit: what every write reads, and the commit it makes.
    kv_get: one value, or its metadata.
    kv_list: paths under a prefix, in pages.
    kv_write: put or delete one value.
    plan: what several operations of a token need for one answer.
    public_values: values that everyone may read.
    sealed_values: which values are sealed, and by which key.
    signed_urls: one version of one value behind a URL.
"""
