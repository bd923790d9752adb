"""Sources of quotes: dstack's guest agent, the kernel, or a simulated platform.

Verifying what they return is `tee_backend.attestation`.
"""
