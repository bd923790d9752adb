"""The platform that the node itself runs on: quotes, and where the root secret comes from."""
