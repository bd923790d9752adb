"""What the machine gives the node: quotes of its own, the root secret, the operator's secret.

Modules:
    admin_key: the operator's secret, compared in constant time.
    own_platform: the guest agent or kernel, as the settings name it.
    own_quotes: the node's quotes, one at a time.
    root_secret: reading the root secret, or making it on the first start.
    sealed_secret: the root secret sealed to a passphrase.
"""
