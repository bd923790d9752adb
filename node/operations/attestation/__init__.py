"""Operations on evidence, of backends and of the node itself, and on the collateral to judge it."""
