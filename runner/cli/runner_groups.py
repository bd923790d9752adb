"""Command groups for runners, tasks, projects and data sets.

No command is imported here, so that `sealspace --help` stays fast.
"""

from sealspace.cli.lazy import LazyGroup, Row, Sections, rows_of

project = LazyGroup(
    {
        **rows_of(
            "runner.cli.program_commands",
            {
                "publish": "Publish a program for runners, and activate it.",
                "activate": "Activate another version.",
                "list": "Print the projects of a developer.",
                "remove": "Remove a project, or one version.",
                "show": "Show a project's versions and their manifests.",
                "provenance": "Verify which repository and commit a version was built from.",
            },
        ),
        "share": Row(
            "runner.cli.run_granting", "Let a runner read a private program.", extra="verify"
        ),
    },
    help="Publish programs for runners, and choose the version that runs.",
)

dataset = LazyGroup(
    {
        "encrypt": Row(
            "runner.cli.program_commands:encrypt_file", "Encrypt a file with a new key."
        ),
        "publish": Row(
            "runner.cli.program_commands:publish_file",
            "Publish the address and checksum of an encrypted file.",
        ),
        "push-key": Row(
            "runner.cli.program_commands:push_key", "Store the key as an encrypted secret."
        ),
    },
    help="Encrypt and publish data sets for tasks on runners.",
    epilog="First steps: `sealspace dataset encrypt survey.csv`, upload `survey.csv.enc`,"
    " `sealspace dataset publish survey survey.csv.enc --url https://files.example/survey.csv.enc`,"
    " `sealspace dataset push-key survey survey.csv.key`.",
)

keys = LazyGroup(
    rows_of(
        "runner.cli.call_commands",
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
            "runner.cli.runner_serve",
            "Start a runner in a trust domain, or on a simulated platform.",
            extra="runner",
        ),
        "grant": Row(
            "runner.cli.run_granting:grant_runner",
            "Grant secrets to a runner, for named programs and callers.",
            extra="verify",
        ),
        "generate": Row(
            "runner.cli.run_granting",
            "Let a runner generate secrets whose values are never shown.",
            extra="verify",
        ),
        "list": Row(
            "runner.cli.run_grants:list_runs", "Show the run grants made from this machine."
        ),
        "revoke": Row(
            "tee_backend.cli.grants",
            "Revoke the grants to a runner; you can make new grants later.",
        ),
        "call": Row("runner.cli.call_commands", "Run a program on a runner, and print its output."),
        "keys": Row(
            "runner.cli.runner_groups",
            "Manage API keys, which call programs in your name and at your cost.",
        ),
        "credit": Row(
            "runner.cli.runner_credit", "Add credit to an owner's account (for operators)."
        ),
        "doctor": Row(
            "runner.cli.runner_doctor",
            "Check what a runner needs (for operators).",
            extra="runner",
        ),
        "backup": Row(
            "runner.cli.journal_commands", "Back up the journal of a runner (for operators)."
        ),
        "restore": Row(
            "runner.cli.journal_commands", "Restore the journal of a runner (for operators)."
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
    {
        "init": Row("runner.cli.python_projects", "Write a Python program into a new folder."),
        "try": Row(
            "runner.cli.python_projects:try_",
            "Run a Python program on this machine, under a runner's limits.",
            extra="runner",
        ),
        **rows_of(
            "runner.cli.task_commands",
            {
                "grant": "Grant secrets for tasks of an application.",
                "run": "Make a task, and watch it.",
                "show": "Show the state of a task.",
                "download": "Download and verify the result of a task.",
            },
            extra="verify",
        ),
    },
    help="Run applications with secrets, a data set and files, on a runner.",
)


SECTIONS: Sections = {
    "Runners": rows_of(
        "runner.cli.runner_groups",
        {
            "runner": "Run programs with your secrets in a TEE.",
            "task": "Run applications with files on a runner.",
            "project": "Publish programs for runners.",
            "dataset": "Encrypt and publish data sets.",
        },
    )
}
"""Commands by heading in the help of `sealspace`."""
