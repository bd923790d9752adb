"""What a generated document is made of."""

from typing import Any

Case = dict[str, Any]
Documents = dict[str, tuple[str, list[Case], Case]]
"""File name to what it is about, its cases, and what all of them share."""
