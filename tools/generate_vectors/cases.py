"""The type of generated documents."""

from typing import Any

Case = dict[str, Any]
Documents = dict[str, tuple[str, list[Case], Case]]
"""File name to the description of its vectors, its cases, and the values that they share."""
