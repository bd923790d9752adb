"""Sources of quotes, namely dstack's guest agent, the kernel and a simulated platform.

`tee_backend.attestation` verifies the quotes.
"""
