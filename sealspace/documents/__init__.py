"""Documents of owners, applications and runners: manifests, grants, published evidence. No I/O."""
