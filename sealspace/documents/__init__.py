"""Documents that owners, applications and runners state: manifests, grants and what they publish.
Pure."""
