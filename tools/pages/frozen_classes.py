"""An extension of the site's API reference: constructors of classes that `frozen` decorates.

It shows such a class as the dataclass that it is.
"""

from typing import Any

from griffe import Class, ExprCall, ExprName, Extension

_DATACLASS = ExprName("dataclasses.dataclass")


class FrozenClasses(Extension):
    """The extension that mkdocs loads."""

    def on_class_instance(self, *, cls: Class, **_: Any) -> None:
        """Replace the decorator before the constructors are derived."""
        for decorator in cls.decorators:
            value = decorator.value
            if decorator.callable_path == "capabilities.frozen.frozen":
                called = isinstance(value, ExprCall)
                decorator.value = ExprCall(_DATACLASS, value.arguments) if called else _DATACLASS
                cls.labels.add("dataclass")
