"""A node that has just been started, as far as its memory of delegations goes."""

from node.services import Services


def forget_delegations(services: Services) -> None:
    """Drop every decoded delegation that a process remembers."""
    delegations = services.delegations
    delegations._by_content.clear()
    delegations._aliases.clear()
    delegations.memory_bytes = 0
