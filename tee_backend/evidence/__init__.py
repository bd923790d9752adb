"""Sources of quotes: dstack's guest agent, the kernel, or a simulated platform.

`tee_backend.attestation` verifies the quotes.
"""
