"""A way to empty a node's cache of delegations, as after a start."""

from node.services import Services


def forget_delegations(services: Services) -> None:
    """Drop every cached delegation of a process."""
    delegations = services.delegations
    delegations._by_content.clear()
    delegations._aliases.clear()
    delegations.memory_bytes = 0
