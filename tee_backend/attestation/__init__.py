"""From the bytes of a quote, its event log and its collateral to evidence.

Public modules: application, certificates, challenge, claims, collateral, collateral_fetcher, collateral_trust, errors,
evaluation_numbers, event_log, event_log_claims, examine, held_collateral, mr_config, pck_chain, pcs, quote, refresh,
report_data, signed_body, trust_domain, trust_root, verify.
"""
