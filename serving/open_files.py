"""The number of files that a process may have open.

Example:
    files = raise_file_limit(4096)
    if files < 4096:
        print(f"at most {files} files can be open")
"""

import resource
import sys
from contextlib import suppress


def raise_file_limit(wanted: int) -> int:
    """Raise the soft limit of open files, and return the limit that applies then.

    The usual soft limit is 1,024, so that programs with `select()` work. Neither a node nor a
    runner uses `select()`; they wait with epoll. The limit is raised no higher than wanted, because
    processes that this one starts inherit it. A limit that is high enough is not changed.

    Args:
        wanted: The number of files that this process or its children need.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return sys.maxsize
    if soft >= wanted:
        return soft
    raised = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(OSError, ValueError):  # a sandbox forbids the call; the old limit applies
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
