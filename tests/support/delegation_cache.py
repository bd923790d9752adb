"""The cache of delegations of a node in this process."""

from node.services import Services


def clear_delegation_cache(services: Services) -> None:
    """Empty the cache, as if the node had just started."""
    delegations = services.delegations
    delegations._owners.clear()
    delegations._of_owner.clear()
    delegations._large_owners.clear()
    delegations._aliases.clear()
    delegations.memory_bytes = 0
