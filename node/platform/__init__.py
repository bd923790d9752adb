"""The platform that the node itself runs on: its quotes, and the source of the root secret.

Modules:
    own_platform: the guest agent or kernel, as the settings name it.
    own_quotes: the node's quotes, one at a time.
    root_secret: reading the root secret, or making it on the first start.
"""
