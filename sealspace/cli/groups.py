"""Tables that map command names to Python modules.

They contain the commands for owners. The modules are imported only when their commands are called.

Example:
    "list": Row("sealspace.cli.keep.secret", "Print the names of secrets, never a value.")
"""

from .lazy import LazyGroup, Row, Sections, rows_of

# --- keep -----------------------------------------------------------------------------------------

secret = LazyGroup(
    {
        **rows_of(
            "sealspace.cli.keep.secret",
            {
                "put": "Encrypt and store a secret.",
                "get": "Print the value of a secret.",
                "list": "List the names of secrets.",
                "delete": "Delete a secret.",
            },
        ),
        **rows_of(
            "sealspace.cli.keep.secret_versions",
            {
                "versions": "List the versions of a secret, and who stored them.",
                "rollback": "Store an earlier value of a secret again.",
                "restore": "Bring back a deleted secret.",
            },
        ),
        **rows_of(
            "sealspace.cli.keep.secret_files",
            {
                "import": "Import all secrets from a .env, JSON or YAML file.",
                "export": "Write all secrets as .env or JSON.",
            },
        ),
        **rows_of(
            "sealspace.cli.keep.secret",
            {"generate": "Store a random value as a secret."},
        ),
        **rows_of(
            "sealspace.cli.share.secret_show",
            {"show": "Show who can read a secret, and how to end it."},
        ),
        **rows_of(
            "sealspace.cli.share.secret_bind",
            {"bind": "Bind values to the names of their secrets."},
        ),
        **rows_of(
            "sealspace.cli.share.sharing",
            {
                "share": "Share secrets with a person or a team.",
                "unshare": "Stop sharing secrets with a person or a team.",
            },
        ),
    },
    help="Store and read secrets. They are encrypted before they leave this machine.",
    epilog="A secret can be read by its owner, by people who got a copy with `sealspace secret"
    " share`, by machine tokens (`sealspace token`), by CI jobs (`sealspace ci trust`), and by"
    " attested code to which the owner granted it with `sealspace backend grant`."
    " The node's operator can turn attestation off with `sealspace admin release set --attestation"
    " off`. `sealspace secret show NAME` lists who can read one.",
)

kv = LazyGroup(
    rows_of(
        "sealspace.cli.keep.kv_commands",
        {
            "put": "Store a value.",
            "get": "Print a value, or write it to a file.",
            "head": "Print the version, size and metadata of a value.",
            "list": "List keys.",
            "delete": "Delete a value.",
        },
    ),
    help="Store and read values in the owner's spaces, without encryption.",
)

sql = LazyGroup(
    rows_of(
        "sealspace.cli.keep.sql_commands",
        {
            "query": "Print the rows of a statement.",
            "execute": "Run statements that change a database.",
            "export": "Write a copy of a database to a file.",
            "list": "List databases and their sizes.",
        },
    ),
    help="Use SQLite databases in the owner's spaces, without encryption.",
)

space = LazyGroup(
    rows_of(
        "sealspace.cli.keep.space",
        {
            "list": "List the owner's spaces.",
            "create": "Create a space on the node.",
            "info": "Show the id, age and size of a space.",
        },
    ),
    help="List and create the owner's spaces on the node.",
)

# --- share ----------------------------------------------------------------------------------------

grant = LazyGroup(
    {
        "create": Row(
            "sealspace.cli.share.grant_create",
            "Grant secrets or values to a DID, and write the grant to a file.",
        ),
        **rows_of(
            "sealspace.cli.share.grant_list",
            {
                "list": "List grants: who may do what, until when.",
                "show": "Explain what one grant allows: yours, or one in a file.",
                "accept": "Accept a grant file that you were given.",
                "revoke": "Revoke a grant permanently.",
            },
        ),
    },
    help="Grant secrets and values to other people and programs, and revoke grants.",
    epilog="To share a space with another person: they run `sealspace login URL --new` and send you"
    " the DID that `sealspace whoami` prints. You run `sealspace grant create DID --space notes"
    " --out grant.json` and send them the file. They run `sealspace grant accept grant.json`."
    " For secrets, use `sealspace secret share` or, for attested code, `sealspace backend"
    " grant`.",
)

manifest = LazyGroup(
    rows_of(
        "sealspace.cli.share.manifest",
        {
            "check": "Report what is wrong with a manifest.",
            "explain": "Explain what an application asks for.",
            "grant": "Grant an application exactly what its manifest asks for.",
        },
    ),
    help="Read an application's manifest, the file that lists the rights it needs, and grant them.",
)

network = LazyGroup(
    {
        **rows_of(
            "sealspace.cli.share.network",
            {
                "show": "Show a network's keys and the conditions for decryption.",
                "create": "Create an additional network.",
                "policy": "Show or set which code may receive a network's keys.",
            },
        ),
        **rows_of(
            "sealspace.cli.share.network_keys",
            {
                "rotate": "Replace a network's key, and encrypt your secrets again.",
                "reencrypt": "Encrypt secrets again that are encrypted to a former key.",
                "retire": "Destroy a former key of a network.",
            },
        ),
        **rows_of(
            "sealspace.cli.share.network",
            {"revoke": "Revoke a network permanently, with everything encrypted to it."},
        ),
    },
    help="Manage encryption networks. A network is a key pair that secrets are encrypted with. The"
    " node stores the private key.",
)


team = LazyGroup(
    {
        **rows_of(
            "sealspace.cli.teams.team_keys",
            {
                "create": "Create a team with members.",
                "recover": "Admit an admin with a team's own key, if none is left.",
            },
        ),
        **rows_of(
            "sealspace.cli.teams.team_adoption",
            {
                "adopt": "Move your own secrets into a team.",
                "convert": "Turn a team of copies into a team with members.",
            },
        ),
        **rows_of(
            "sealspace.cli.teams.team_members",
            {
                "members": "List the members of a team.",
                "role": "Change the role of a member.",
                "leave": "End your own membership of a team.",
            },
        ),
        **rows_of(
            "sealspace.cli.teams.team_invitations",
            {
                "invite": "Invite a person to a team with members.",
                "join": "Join a team with an invitation.",
                "confirm": "Compare the words of an invitation, and admit the person.",
            },
        ),
        **rows_of(
            "sealspace.cli.teams.team_moves",
            {
                "move": "Move a team to a new wallet, when its key may be known.",
                "countersign": "Sign, as the second admin, that a team moves.",
                "follow": "Use the new wallet of a team that has moved.",
            },
        ),
        **rows_of(
            "sealspace.cli.teams.people",
            {
                "add": "Add a person to a team.",
                "remove": "Remove a person from a team.",
                "renew": "Renew copies for a person who has replaced the network's key.",
                "list": "List your teams, and who can read which of your secrets.",
            },
        ),
    },
    help="Use secrets together. In a team with members, all read the same secrets, and some replace"
    " them. A team of copies is a named list of people, to whom you share copies of your own"
    " secrets.",
    epilog="`sealspace team create` makes a team with members. `sealspace team add` with another"
    " name makes a team of copies.",
)

contact = LazyGroup(
    rows_of(
        "sealspace.cli.share.contact_commands",
        {
            "add": "Give a name to a DID.",
            "list": "List your contacts with their DIDs.",
            "show": "Print the DID of a contact, or the name of a DID.",
            "rename": "Give another name to a contact.",
            "remove": "Remove a contact.",
        },
    ),
    help="Give names to the DIDs of people, backends and keys. Commands take a name in the place of"
    " a DID, and print it beside the DID.",
    epilog="The names are yours: no grant, page or receipt can set one. They are sealed and signed,"
    " and stored in your space `default`, so your other machines have them too.",
)

token = LazyGroup(
    rows_of(
        "sealspace.cli.share.token_commands",
        {
            "create": "Create a machine token, and print its line.",
            "list": "List machine tokens: secrets, end and last use.",
            "revoke": "Revoke a machine token permanently.",
        },
    ),
    help="Let servers and CI jobs read a few secrets without your key. A machine token is one line"
    " of text, which reads the secrets that you name until it ends.",
)

ci = LazyGroup(
    {
        **rows_of(
            "sealspace.cli.share.ci_commands",
            {
                "trust": "Say which CI jobs may read which secrets.",
                "login": "Exchange a job's ID token for a machine token.",
            },
        ),
        **rows_of(
            "sealspace.cli.share.token_commands",
            {
                "list": "List the trusts in force: secrets, end and last use.",
                "revoke": "Revoke a trust permanently.",
            },
        ),
    },
    help="Let CI jobs read secrets without storing one. A job proves with an ID token which"
    " repository and branch it belongs to.",
)

sms = LazyGroup(
    rows_of(
        "sealspace.cli.share.sms_commands",
        {
            "enable": "Let iExec's clients store secrets in your space.",
            "disable": "Revoke the right of iExec's clients.",
            "status": "Show whether iExec's clients are enabled.",
        },
    ),
    help="Let iExec's client push secrets, as it does to iExec's secret management service.",
)

# --- who ------------------------------------------------------------------------------------------

recovery = LazyGroup(
    rows_of(
        "sealspace.cli.who.recovery_commands",
        {
            "create": "Split your wallet's key into shares, and write them to files.",
            "check": "Check that shares give the key of their owner.",
            "use": "Recover a wallet's key from shares, and sign in with it.",
        },
    ),
    help="Keep your wallet's key in shares with people you trust. A number of them that you choose"
    " gives the key back; fewer give nothing.",
    epilog="A share is a line of 33 words (SLIP-39). New shares do not end old ones: every set that"
    " was ever made still gives the key.",
)

SECTIONS: Sections = {
    "Start": rows_of(
        "sealspace.cli.version",
        {"completion": "Print a shell completion script.", "version": "Print the version."},
    ),
    "Who": {
        **rows_of(
            "sealspace.cli.who.login",
            {
                "login": "Sign in to a node as an owner, with a wallet.",
                "logout": "End the session and remove it from this machine.",
                "whoami": "Print the owner, the session's key and the node.",
                "status": "Check that the node answers and the session is valid.",
            },
        ),
        "recovery": Row("sealspace.cli.groups", "Keep a wallet's key in shares, and recover it."),
        "use": Row("sealspace.cli.who.use", "Choose a team, whose secrets the commands use."),
        "console": Row("sealspace.cli.who.console", "Open the console in a browser, signed in."),
    },
    "Keep": rows_of(
        "sealspace.cli.groups",
        {
            "secret": "Store and read secrets, encrypted on this machine.",
            "kv": "Store and read values, without encryption.",
            "sql": "Use SQLite databases, without encryption.",
            "space": "List and create spaces.",
        },
    ),
    "Share": rows_of(
        "sealspace.cli.groups",
        {
            "grant": "Create, list, show, accept and revoke grants.",
            "contact": "Give names to DIDs, and use them in commands.",
            "team": "Use secrets together, or share copies by team.",
            "manifest": "Check, explain and grant what an application asks for.",
            "network": "Manage encryption networks and their policies.",
            "token": "Let servers and CI jobs read a few secrets.",
            "ci": "Let CI jobs read secrets without storing one.",
            "sms": "Let iExec's client push secrets.",
        },
    ),
    "Use": {
        **rows_of(
            "sealspace.cli.use.run",
            {"run": "Run a command with secrets as environment variables."},
        ),
        "template": Row("sealspace.cli.use.template", "Insert secrets into a file."),
        "mcp": Row(
            "sealspace.cli.use.mcp_server",
            "Let agents use secrets without seeing them.",
            extra="mcp",
        ),
    },
}
"""Heading in `sealspace --help` -> its commands."""
