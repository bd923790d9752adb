"""Operations that store, read and share values, and that manage quotas and admitted owners."""
