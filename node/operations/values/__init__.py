"""Operations on values, public values and signed URLs, and on quotas and admissions."""
