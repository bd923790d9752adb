"""Documents of owners, applications and runners, such as manifests, grants and published evidence.

The modules do no I/O.
"""
