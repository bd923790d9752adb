"""What an operator watches: numbers that all processes of a node write into one table in memory, and their text.

Modules: series (what is counted), table (where), tally and commit_tally (who counts), pulse (once a second), survey
(what stands in the store), text, scraping (the listener).
"""
