"""Operations on delegations: register, revoke, report; and the spaces of an owner."""
