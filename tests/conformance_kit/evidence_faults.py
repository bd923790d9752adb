"""Faults of a node that accepts evidence, each of which the kit has to notice."""

from conformance_kit.line_faults import Fault

from encryption_network import gate, grounds, judgement, policy, withdrawals
from tee_backend.attestation import report_data

_GROUP = "accepted-evidence"

EVIDENCE_FAULTS = (
    Fault(
        name="any code that proves itself gets keys",
        function=judgement._is_code_listed,
        line="return not policy.measurements or any("
        "entry.covers(evidence) for entry in policy.measurements)",
        instead="return True",
        group=_GROUP,
        asked="ask as code whose mrtd is that of another listed image",
    ),
    Fault(
        name="a register is not compared",
        function=policy.Measurements.covers,
        line="and self.rtmr2 == other.rtmr2",
        instead="",
        group=_GROUP,
        asked="ask as code whose rtmr2 is that of another listed image",
    ),
    Fault(
        name="a key is released to another receiver",
        function=gate._require_evidence,
        line='evidence.receiver_mode == "attested"',
        instead='evidence.receiver_mode == "signed"',
        group=_GROUP,
        asked="ask for another receiver",
    ),
    Fault(
        name="a delegate lists code",
        function=grounds._check_owner_list,
        line="if sessions is not None:",
        instead="sessions = sessions or ()\n        if True:",
        group=_GROUP,
        asked="ask as code that a delegate listed",
    ),
    Fault(
        name="policies are not judged",
        function=gate._judged_evidence,
        line="if refusal is not None:",
        instead="if False:",
        group=_GROUP,
        asked="ask after the owner lists other code instead",
    ),
    Fault(
        name="withdrawn code gets keys",
        function=withdrawals.Withdrawals.covers,
        line="if measured & self.measurements:",
        instead="if False:",
        group=_GROUP,
        asked="ask as the withdrawn code",
    ),
    Fault(
        name="withdrawn evidence is used",
        function=withdrawals.Withdrawals.covers,
        line="return bool(self.evidence) and evidence_digest(evidence) in self.evidence",
        instead="return False",
        group=_GROUP,
        asked="ask with the withdrawn evidence",
    ),
    Fault(
        name="a quote for another request is accepted",
        function=report_data.check_report_data,
        line="not hmac.compare_digest(actual, expected)",
        instead="False",
        group=_GROUP,
        asked="a signed quote for another node",
    ),
    Fault(
        name="attributes are not judged",
        function=judgement.judge,
        line="if evidence.td_attributes not in policy.td_attributes:",
        instead="if False:",
        group=_GROUP,
        asked="ask as a domain with performance counters",
    ),
)
