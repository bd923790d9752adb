"""`sealspace attest`: receipts of releases, and a node's own evidence; an operator's commands and an owner's."""

from .lazy import LazyGroup, Row, Table

COMMANDS: Table = {
    "receipts": Row("node.cli.operator.attest", "receipts", "Print receipts, one JSON object a line.", "node"),
    "export": Row(
        "node.cli.operator.attest", "export", "Write receipts and the documents they refer to into a folder.", "node"
    ),
    "verify": Row("node.cli.operator.attest_verify", "verify", "Judge a receipt again, without the node.", "verify"),
    "node": Row("node.cli.owner.attest_node", "node", "Ask a node what code it runs, and verify the answer.", "verify"),
}

attest = LazyGroup(
    COMMANDS,
    name="attest",
    help="Show receipts of releases, or verify one without the node; ask a node what code it runs.",
)
