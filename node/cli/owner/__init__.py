"""Commands of owners: they call a node over HTTP, and need the base install only.

Modules:
    backend_end: `sealspace backend list`, `revoke` and `withdraw`.
    backend_grant: `sealspace backend grant`.
    backend_serve: `sealspace backend serve` and `simulate`.
    backend_show: `sealspace backend show`.
    dotenv: files of names and values.
    durations: how long a grant lasts, as options write it.
    grant_create: `sealspace grant create`.
    grant_facts: one grant, judged without a node, in words and as JSON.
    grant_list: `sealspace grant list` and `show`.
    grant_use: `sealspace grant revoke` and `accept`.
    kv: `sealspace kv`.
    login: `sealspace login`.
    loopback_peers: whose process connects over loopback.
    manifest: `sealspace manifest`.
    network: `sealspace network show`, `create` and `revoke`.
    network_policy: `sealspace network policy`.
    node_demand: holding a session to the node's own evidence.
    node_judging: judging a node's evidence, and describing it in words.
    node_terms: options that say what a node has to prove.
    node_verify: `sealspace node verify`.
    owner_checks: what `doctor` checks of a login.
    owner_profile: the owner's folder: key, session, grants.
    policy_words: policies in words, and how two differ.
    portable_files: grants as files.
    program_check: compiling a program before it is published.
    project: `sealspace project`.
    project_share: `sealspace project share`.
    receipts: `sealspace receipts list`.
    receipts_verify: `sealspace receipts verify`.
    run: `sealspace run`.
    run_child: starting the command, forwarding its streams and signals.
    run_environment: what is in its environment.
    run_masker: masking values in a stream of bytes.
    run_terminal: the caller's terminal meanwhile.
    runner_call: `sealspace runner call`.
    runner_credit: `sealspace runner credit`.
    runner_generate: `sealspace runner generate`.
    runner_grant: `sealspace runner grant`.
    runner_keys: `sealspace runner keys`.
    runner_list: `sealspace runner list`.
    runner_serve: `sealspace runner serve`.
    runner_verify: `sealspace runner verify`.
    secret: `sealspace secret`, one at a time.
    secret_files: `sealspace secret import` and `export`.
    secret_values: reading secrets for other programs.
    signing_words: what a text gives away that a wallet signs.
    space: `sealspace space`.
    template: `sealspace template`.
    trust_domain: what `backend serve` and `runner serve` share.
    wallet_desk: what a command asks of a wallet in a browser, and the answers.
    wallet_files: files with a wallet's key.
    wallet_page: the wallet in a browser, and the page that a command shows for it.
    wallet_server: the server of that page, on loopback.
    who: `sealspace logout`, `whoami` and `status`.
    yaml_values: names and values of a YAML file.
"""
