"""Operations that register, revoke and list delegations, and that manage an owner's spaces."""
