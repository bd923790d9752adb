"""Client code for applications, backends and runners: attestation, grants and program calls."""
