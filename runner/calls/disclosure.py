"""What the caller of a run is told if others own the secrets that it had (RN85, RN297).

A caller chooses the input and the limits of a run. So what is said of a run that such a limit ended
must not depend on how far its program came: otherwise a caller reads a secret letter by letter,
from a program that only compares it.

Example:
    result = without_traces(result, request, stated=body.limits, most=runner_limits)
"""

from collections.abc import Mapping
from dataclasses import replace

from ..guest.runs import Limits, RunRequest, RunResult

_LIMIT_OF_CODE = {
    "limit-instructions": "max_instructions",
    "limit-memory": "max_memory_mb",
    "limit-time": "max_execution_s",
}
"""The limit that ended a run, by the code of its failure. Callers can set no others."""
_NS = 1_000_000_000


def without_traces(
    result: RunResult, request: RunRequest, *, stated: Mapping[str, int], most: Limits
) -> RunResult:
    """Return the result of a run as its caller is told it, who does not own all of its secrets.

    Args:
        result: the result. Its answer has standard output only if the program decided how it ended
            (RN263).
        request: the run, with the limits that were in force.
        stated: the limits that the caller stated, by attributes of `Limits`.
        most: the limits of the runner.
    """
    result = replace(result, stderr=b"", stdout=b"", is_stderr_private=True)
    if result.reason is None:
        return result
    limit = _LIMIT_OF_CODE.get(result.reason.code)
    # A limit of a grant or of the runner is the same for every caller.
    if limit is None or limit not in stated or stated[limit] >= getattr(most, limit):
        return result
    return replace(
        result,
        reason=result.reason._replace(detail=""),  # the exit code of the program
        instructions=request.limits.max_instructions,
        time_ns=request.limits.max_execution_s * _NS,
        hosts=tuple(sorted(request.hosts)),
        storage="unknown" if request.has_storage else "none",
    )
