"""The bases of immutable structs."""

from typing import dataclass_transform

from msgspec import Struct, field


# Subclasses inherit what the base states; the decorator makes it known to type checkers.
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
class FrozenStruct(Struct, frozen=True):
    """The base of structs whose fields cannot be set after construction."""


class AcyclicStruct(FrozenStruct, gc=False):
    """The base of frozen structs that never belong to a reference cycle.

    The garbage collector does not look at them.
    """
