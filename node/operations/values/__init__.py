"""Operations on stored values, storage quotas and the list of admitted owners."""
