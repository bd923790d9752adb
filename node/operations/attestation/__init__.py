"""Operations that verify backends' evidence, produce the node's own, and refresh collateral."""
