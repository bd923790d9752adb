"""Applications, backends and runners: manifests, and grants to them."""
