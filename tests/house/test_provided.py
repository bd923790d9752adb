"""A check of types that packages provide to commands of lower packages."""

from importlib.metadata import entry_points

from node import console_files
from runner.calls import run_receipts
from sealspace.cli.provided import ConsoleFiles, HttpsRequests, NodeJudging
from tee_backend.cli import https_requests, node_judging
from tee_backend.cli.provided_receipts import RunReceipts

# The types are checked here by mypy, which cannot look behind the name of an entry point.
CONSOLE_FILES: ConsoleFiles = console_files
HTTPS_REQUESTS: HttpsRequests = https_requests
NODE_EVIDENCE: NodeJudging = node_judging
RUN_RECEIPTS: RunReceipts = run_receipts


def test_each_entry_point_is_a_module_of_a_stated_type() -> None:
    provided = {point.name: point.load() for point in entry_points(group="sealspace.provided")}
    assert provided == {
        "console-files": CONSOLE_FILES,
        "https-requests": HTTPS_REQUESTS,
        "node-evidence": NODE_EVIDENCE,
        "run-receipts": RUN_RECEIPTS,
    }
