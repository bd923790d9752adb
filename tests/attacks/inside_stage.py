"""A stage of the attack tests on a node in this process, whose parts a test can look at."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from attacks.parties import Stage
from embedded_node import EmbeddedNode


@dataclass
class InsideStage(Stage):
    """A stage whose node runs in this process."""

    inside: EmbeddedNode | None = None


OpenStage = Callable[..., Awaitable[Stage]]


def inside(stage: Stage) -> EmbeddedNode:
    """The parts of the node."""
    assert isinstance(stage, InsideStage)
    assert stage.inside is not None
    return stage.inside
