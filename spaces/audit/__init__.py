"""The audit: records, the hash chain over them, its export and its pruning.

Modules:
    chain: numbered, hashed entries under signed heads.
    export: verifying an exported chain offline.
    pruning: removing the oldest part of a chain.
    records: audit records, written in the commit of what they record.
"""
