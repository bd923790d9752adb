"""Command groups for backends and receipts.

No command is imported here, so that `sealspace --help` stays fast.
"""

from sealspace.cli.lazy import LazyGroup, Row, Sections, rows_of

backend = LazyGroup(
    {
        "show": Row(
            "tee_backend.cli.granting", "Verify and show which code a backend runs.", extra="verify"
        ),
        "grant": Row(
            "tee_backend.cli.granting",
            "Grant secrets to a backend, for exactly the code that it proves to run.",
            extra="verify",
        ),
        **rows_of(
            "tee_backend.cli.grants",
            {
                "deliver": "Send the grants in a file to the backend that they name.",
                "list": "Show the grants made from this machine, and the state of each grant.",
                "revoke": "Revoke the grants to a backend; you can make new grants later.",
                "withdraw": (
                    "Permanently block a backend, or certain code, from your network's keys."
                ),
            },
        ),
        "measure": Row(
            "tee_backend.cli.backend_measure",
            "Compute what a backend's quote has to show, from files.",
            extra="verify",
        ),
        "simulate": Row(
            "tee_backend.cli.backend_simulate", "Make a simulated platform for trials."
        ),
    },
    help="Inspect a backend, grant secrets to the exact code that the backend runs, and revoke"
    " grants.",
    epilog="First steps: `sealspace login URL --new`, `sealspace secret put NAME`,"
    " `sealspace backend show URL`, `sealspace backend grant URL`. `sealspace --help` lists the"
    " exit statuses.",
)

attest = LazyGroup(
    rows_of(
        "tee_backend.cli.attest",
        {
            "record": "Keep a quote with everything that is needed to judge it again.",
            "replay": "Judge a kept quote again, for its time and for now.",
        },
        extra="verify",
    ),
    help="Keep proofs of what a machine attested, and judge them again anywhere.",
)

receipts = LazyGroup(
    {
        "list": Row(
            "sealspace.cli.share.receipt_commands",
            "Print the receipts of released keys, and verify the node's signatures.",
        )
    },
    help="See who received keys of your network.",
)


SECTIONS: Sections = {
    "Backends": {
        **rows_of(
            "tee_backend.cli.backend_groups",
            {
                "backend": "Inspect a backend, grant secrets to its code, revoke grants.",
                "receipts": "See who received keys of your network.",
                "attest": "Keep proofs of attestations, and judge them again.",
            },
        ),
        "verify": Row(
            "tee_backend.cli.verify",
            "Verify receipts, audit exports, or the code of a node.",
            extra="verify",
        ),
    },
}
"""Commands by heading in the help of `sealspace`."""
