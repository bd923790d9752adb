"""Operations on values: get, put, list, delete, public values, signed URLs, quotas and
admissions."""
