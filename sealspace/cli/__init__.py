"""The command line program `sealspace`."""
