"""The environment variables of a run: those of the runner, and those with secrets.

Example:
    environment = run_environment(job, body, caller, limits=limits, secrets=values)
"""

import uuid
from collections.abc import Mapping

from sealspace.documents.project_names import ProjectId

from ..guest.environment import Environment, environment_of
from ..guest.runs import Limits
from .call_bodies import CallBody
from .task_stages import task_environment


def run_environment(
    job: str, body: CallBody, caller: str, *, limits: Limits, secrets: Mapping[str, str]
) -> Environment:
    """Return the environment of a run, with its secrets.

    Raises:
        RunRefused: a reason of `environment_of`.
    """
    if body.task is not None:
        return task_environment(job, body.task, secrets)
    system = _system(job, caller, body.project, limits)
    return environment_of(system, secrets)


def _system(job: str, caller: str, project: ProjectId | None, limits: Limits) -> dict[str, str]:
    """Return the environment variables set by the runner (RN84).

    The variables are compatible with OutLayer's. Those about a blockchain are empty here.
    """
    variables = dict.fromkeys(
        (
            "NEAR_NETWORK_ID",
            "NEAR_CONTRACT_ID",
            "NEAR_BLOCK_HEIGHT",
            "NEAR_BLOCK_TIMESTAMP",
            "NEAR_RECEIPT_ID",
            "NEAR_PREDECESSOR_ID",
            "NEAR_SIGNER_PUBLIC_KEY",
            "NEAR_GAS_BURNT",
            "NEAR_TRANSACTION_HASH",
            "NEAR_REQUEST_ID",
        ),
        "",
    ) | {
        "OUTLAYER_EXECUTION_TYPE": "HTTPS",
        "NEAR_SENDER_ID": caller,
        "NEAR_USER_ACCOUNT_ID": caller,
        "NEAR_PAYMENT_YOCTO": "0",
        "ATTACHED_USD": "0",
        "USD_PAYMENT": "0",
        "OUTLAYER_CALL_ID": job,
        "NEAR_MAX_INSTRUCTIONS": str(limits.max_instructions),
        "NEAR_MAX_MEMORY_MB": str(limits.max_memory_mb),
        "NEAR_MAX_EXECUTION_SECONDS": str(limits.max_execution_s),
    }
    if project is not None:  # otherwise absent, not empty: a program can tell the difference
        variables |= {
            "OUTLAYER_PROJECT_ID": project.text,
            "OUTLAYER_PROJECT_OWNER": project.developer,
            "OUTLAYER_PROJECT_NAME": project.name,
            "OUTLAYER_PROJECT_UUID": str(uuid.uuid5(uuid.NAMESPACE_URL, project.text)),
        }
    return variables
