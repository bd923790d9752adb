"""Operations on values, public values, signed URLs, quotas and admissions."""
