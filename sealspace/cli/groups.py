"""The commands of owners, by noun, and where each is. No command is imported here.

Example:
    "list": Row("sealspace.cli.secret", "Print the names of secrets, never a value.")
"""

from typing import Final

from .lazy import LazyGroup, Row, Sections, rows_of

# --- keep -----------------------------------------------------------------------------------------

secret = LazyGroup(
    rows_of(
        "sealspace.cli.secret",
        {
            "put": "Seal and store a secret.",
            "get": "Print the value of a secret.",
            "list": "Print the names of secrets, never a value.",
            "delete": "Delete a secret.",
            "import": "Store every secret of a .env, JSON or YAML file.",
            "export": "Write all secrets as .env or JSON.",
            "generate": "Make a random value, and store it.",
        },
    ),
    name="secret",
    help="Keep secrets in the owner's space, sealed before they leave this machine.",
    epilog=(
        "A secret is not shared between people: beside its owner it opens for code that proves"
        " itself, to which `sealspace backend grant` grants it, unless the node's operator set"
        " `sealspace admin release set --attestation off`."
    ),
)

kv = LazyGroup(
    rows_of(
        "sealspace.cli.kv_commands",
        {
            "put": "Store a value.",
            "get": "Print a value, or write it into a file.",
            "head": "Print version, size and metadata of a value.",
            "list": "Print keys.",
            "delete": "Delete a value.",
        },
    ),
    name="kv",
    help="Keep values in the owner's spaces, as they are: nothing is sealed.",
)

space = LazyGroup(
    rows_of(
        "sealspace.cli.space",
        {
            "list": "Print the owner's spaces.",
            "create": "Have the node host a space.",
            "info": "Print what is known of a space.",
        },
    ),
    name="space",
    help="See and make the owner's spaces on the node.",
)

# --- share ----------------------------------------------------------------------------------------

grant = LazyGroup(
    {
        "create": Row(
            "sealspace.cli.grant_create", "Grant secrets or values to a DID, and write the grant."
        ),
        **rows_of(
            "sealspace.cli.grant_list",
            {
                "list": "Show who holds what, until when.",
                "show": "Say what one grant allows: yours, or one in a file.",
                "accept": "Use a grant that somebody gave you.",
                "revoke": "End a grant for good.",
            },
        ),
    },
    name="grant",
    help="Grant secrets and values to somebody else, by DID, and end that again.",
    epilog=(
        "From one person to another: the second runs `sealspace login URL --new` and gives the DID"
        " that `sealspace whoami` prints; the first runs `sealspace grant create DID --space notes"
        " --out grant.json` and gives the file; the second runs `sealspace grant accept"
        " grant.json`. Secrets are not shared so between people: they go to code that proves what"
        " it is, with `sealspace backend grant`."
    ),
)

manifest = LazyGroup(
    rows_of(
        "sealspace.cli.manifest",
        {
            "check": "List everything that is wrong with a manifest.",
            "explain": "Say in plain words what an application asks for.",
            "grant": "Grant an application exactly what its manifest asks for.",
        },
    ),
    name="manifest",
    help="Manifests: what an application says that it needs, in a file; read one, and grant it.",
)

network = LazyGroup(
    rows_of(
        "sealspace.cli.network",
        {
            "show": "Show a network, and what it takes to open what is sealed to it.",
            "create": "Make a further network.",
            "policy": "Show or set what code may receive a network's keys.",
            "revoke": "End a network for ever, with all that is sealed to it.",
        },
    ),
    name="network",
    help=(
        "The encryption networks that secrets are sealed to, and on what terms the node opens them."
    ),
)


SECTIONS: Final[Sections] = {
    "Start": rows_of(
        "sealspace.cli.version",
        {
            "completion": "Have a shell complete commands and options.",
            "version": "Print the version.",
        },
    ),
    "Who": rows_of(
        "sealspace.cli.login",
        {
            "login": "Sign in to a node as an owner, with a wallet.",
            "logout": "End the session, and remove it from this machine.",
            "whoami": "Print the owner, the session's key and the node.",
            "status": "Say whether the node answers and the session holds.",
        },
    ),
    "Keep": rows_of(
        "sealspace.cli.groups",
        {
            "secret": "Keep secrets, sealed before they leave this machine.",
            "kv": "Keep values, as they are.",
            "space": "See and make spaces.",
        },
    ),
    "Share": rows_of(
        "sealspace.cli.groups",
        {
            "grant": "Grants to a DID: create, list, show, accept, revoke.",
            "manifest": "What an application asks for: check, explain, grant.",
            "network": "Encryption networks, and on what terms they open.",
        },
    ),
    "Use": rows_of(
        "sealspace.cli.run",
        {
            "run": "Run a command with secrets as environment variables.",
            "template": "Fill secrets into a file.",
        },
    ),
}
"""Heading of the root's help -> its commands."""
