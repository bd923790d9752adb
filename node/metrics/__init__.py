"""What an operator watches: numbers that all processes of a node write into one table in memory, and their text.

Public modules: commit_tally, counting, measuring, pulse, scraping, series, survey, table, tally, text, vitals.
"""
