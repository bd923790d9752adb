"""The decorator of immutable dataclasses."""

from dataclasses import dataclass, field
from typing import Any, dataclass_transform


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: Any = None, /, **options: bool) -> Any:
    """Make a class a dataclass with slots, whose fields cannot be set after construction."""
    return dataclass(cls, frozen=True, slots=True, **options)
