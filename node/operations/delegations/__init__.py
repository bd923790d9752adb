"""Operations on delegations (register, revoke, report), and on the spaces of an owner."""
