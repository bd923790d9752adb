"""Faults of a runner, each of which the kit has to notice."""

from conformance_kit.line_faults import Fault

from runner.calls import run_receipts, task_stages
from runner.calls.calls import Calls
from runner.calls.service import Runner
from sealspace.apps import run_calls

_GROUP = "tasks"

RUNNER_FAULTS = (
    Fault(
        name="a token is good for every body",
        function=run_calls.Call.require,
        line="if self.fact != _call_fact(stated, body, self.runner):",
        instead="if False:",
        group=_GROUP,
        asked="a token for another body",
    ),
    Fault(
        name="a token makes two tasks",
        function=Runner.use_token,
        line="if not is_new:",
        instead="if False:",
        group=_GROUP,
        asked="the same request again",
    ),
    Fault(
        name="a token for another start is accepted",
        function=Runner.verify_caller,
        line="if call.runner.start != self.identity.start_hash:",
        instead="if False:",
        group=_GROUP,
        asked="a call for another start",
    ),
    Fault(
        name="a call to another runner is accepted",
        function=run_calls.read_call,
        line="if invocation.audience != runner:",
        instead="if False:",
        group=_GROUP,
        asked="a call to another runner",
    ),
    Fault(
        name="a sign-in of any age is accepted",
        function=run_calls._verify_sign_in,
        line="if not -_CLOCKS_APART_S <= now - delegation.issued_at <= MAX_SIGN_IN_AGE_S:",
        instead="if False:",
        group=_GROUP,
        asked="a sign-in of more than a day",
    ),
    Fault(
        name="everybody sees every task",
        function=Calls.answer_of,
        line="if holder not in (record.caller, record.beneficiary):",
        instead="if False:",
        group=_GROUP,
        asked="a stranger asks for the task",
    ),
    Fault(
        name="a refusal does not name the missing secrets",
        function=task_stages.require_none_missing,
        line='listed = ", ".join(map(str, sorted(indexes)))',
        instead='listed = ""',
        group=_GROUP,
        asked="two secrets without a grant",
    ),
    Fault(
        name="a receipt is signed for another start",
        function=run_receipts.sign_receipt,
        line='"start": start,',
        instead='"start": start[::-1],',
        group=_GROUP,
        asked="the receipt's start",
    ),
    Fault(
        name="a receipt is about another input",
        function=run_receipts.salted,
        line="hashed.update(data)",
        instead="hashed.update(bytes(data)[1:])",
        group=_GROUP,
        asked="the receipt's inputHash",
    ),
)
