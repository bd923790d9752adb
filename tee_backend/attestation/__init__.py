"""From the bytes of a quote to evidence.

Public modules: certificates, challenge, collateral, collateral_trust, errors, judgement, quote, report_data,
trust_domain, trust_root, verify.
"""
