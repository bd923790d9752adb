"""Document formats: manifests, grants, signed statements and published evidence.

The modules do no I/O.
"""
