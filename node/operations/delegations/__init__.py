"""Operations on delegations and on an owner's spaces.

They register, revoke and list delegations, and manage spaces.
"""
