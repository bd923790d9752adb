"""Command groups for backends, runners, projects and receipts.

No command is imported here, so that `sealspace --help` stays fast.
"""

from sealspace.cli.lazy import LazyGroup, Row, Sections, rows_of

backend = LazyGroup(
    {
        "show": Row(
            "tee_backend.cli.granting", "Verify and show which code a backend runs.", "verify"
        ),
        "grant": Row(
            "tee_backend.cli.granting",
            "Grant secrets to a backend, for exactly the code that it proves to run.",
            "verify",
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

project = LazyGroup(
    {
        **rows_of(
            "tee_backend.cli.program_commands",
            {
                "publish": "Publish a program for runners, and activate it.",
                "activate": "Activate another version.",
                "list": "Print the projects of a developer.",
                "remove": "Remove a project, or one version.",
                "show": "Show a project's versions and their manifests.",
                "provenance": "Verify which repository and commit a version was built from.",
            },
        ),
        "share": Row("tee_backend.cli.granting", "Let a runner read a private program.", "verify"),
    },
    help="Publish programs for runners, and choose the version that runs.",
)

dataset = LazyGroup(
    {
        "encrypt": Row(
            "tee_backend.cli.program_commands:encrypt_file", "Encrypt a file with a new key."
        ),
        "publish": Row(
            "tee_backend.cli.program_commands:publish_file",
            "Publish the address and checksum of an encrypted file.",
        ),
        "push-key": Row(
            "tee_backend.cli.program_commands:push_key", "Store the key as an encrypted secret."
        ),
    },
    help="Encrypt and publish data sets for tasks on runners.",
    epilog="First steps: `sealspace dataset encrypt survey.csv`, upload `survey.csv.enc`,"
    " `sealspace dataset publish survey survey.csv.enc --url https://files.example/survey.csv.enc`,"
    " `sealspace dataset push-key survey survey.csv.key`.",
)

keys = LazyGroup(
    rows_of(
        "tee_backend.cli.call_commands",
        {
            "create": "Make an API key, and print it once.",
            "list": "Show your account and API keys on a runner.",
            "revoke": "Revoke an API key.",
        },
    ),
    help="Manage API keys of a runner. A key calls programs in your name and at your cost.",
)
runner = LazyGroup(
    {
        "serve": Row(
            "tee_backend.cli.runner_serve",
            "Start a runner in a trust domain, or on a simulated platform.",
            "runner",
        ),
        "grant": Row(
            "tee_backend.cli.granting:grant_runner",
            "Grant secrets to a runner, for named programs and callers.",
            "verify",
        ),
        "generate": Row(
            "tee_backend.cli.granting",
            "Let a runner generate secrets whose values are never shown.",
            "verify",
        ),
        "list": Row(
            "tee_backend.cli.grants:list_runs", "Show the run grants made from this machine."
        ),
        "revoke": Row(
            "tee_backend.cli.grants",
            "Revoke the grants to a runner; you can make new grants later.",
        ),
        "call": Row(
            "tee_backend.cli.call_commands", "Run a program on a runner, and print its output."
        ),
        "keys": Row(
            "tee_backend.cli.backend_groups",
            "Manage API keys, which call programs in your name and at your cost.",
        ),
        "credit": Row(
            "tee_backend.cli.runner_credit", "Add credit to an owner's account (for operators)."
        ),
    },
    help=(
        "Run other people's programs with your secrets, on a runner that proves which code it runs."
    ),
    epilog="First steps: `sealspace project publish NAME FILE`, `sealspace runner"
    " grant URL --secret API_KEY --program DID/NAME`, `sealspace runner call URL DID/NAME"
    " --secrets me`.",
)

task = LazyGroup(
    rows_of(
        "tee_backend.cli.task_commands",
        {
            "grant": "Grant secrets for tasks of an application.",
            "run": "Make a task, and watch it.",
            "show": "Show the state of a task.",
            "download": "Download and verify the result of a task.",
        },
        "verify",
    ),
    help="Run applications with secrets, a data set and files, on a runner.",
)

receipts = LazyGroup(
    {
        "list": Row(
            "sealspace.cli.receipt_commands",
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
                "runner": "Run programs with your secrets in a TEE.",
                "task": "Run applications with files on a runner.",
                "project": "Publish programs for runners.",
                "dataset": "Encrypt and publish data sets.",
                "receipts": "See who received keys of your network.",
            },
        ),
        "verify": Row(
            "tee_backend.cli.verify",
            "Verify receipts, audit exports, or the code of a node.",
            "verify",
        ),
    }
}
"""Commands by heading in the help of `sealspace`."""
