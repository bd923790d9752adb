"""Memory that was freed: how much of it a worker keeps for what comes next.

glibc gives the end of its heap back to the kernel as soon as 256 KiB of it are free, and asks for it again a moment
later: an upload of 10 MiB paid for some 500 pages anew. Both of its bounds grow when a large block is freed.

Example:
    keep_freed_memory()
"""

from typing import Final

# Blocks of up to this size come out of the heap from then on, and it keeps twice as much.
_BLOCK_BYTES: Final = 2 * 1024 * 1024


def keep_freed_memory() -> None:
    """Let this process keep a few MiB of what it frees; where the C library is another one, nothing happens."""
    bytes(_BLOCK_BYTES)  # mapped, never touched, and freed at once
