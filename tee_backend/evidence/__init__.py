"""Sources of quotes: dstack's guest agent, the kernel, or a simulated platform.

Verifying what they return is `tee_backend.attestation`.

Modules:
    dstack: quotes, event logs and keys from a dstack guest agent.
    errors: the error tree of this package.
    simulated: a TDX platform in software, under a root of its own.
    source: the protocol of a source: a quote over 64 bytes.
    tsm: quotes from the kernel's TSM reports.
"""
