"""Sources of quotes on real and simulated platforms.

Quotes come from dstack's guest agent, the Linux kernel or a simulated platform.
`tee_backend.attestation` verifies the quotes.
"""
