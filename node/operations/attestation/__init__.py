"""Operations on attestation evidence and collateral.

They verify backends' evidence, produce the node's own, and refresh collateral.
"""
