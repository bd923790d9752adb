"""Quote sources: dstack's guest agent, the Linux kernel and a simulated platform.

`tee_backend.attestation` verifies the quotes.
"""
