"""Metrics: numbers of all processes in one shared-memory table, and their text for Prometheus.

Modules:
    commit_tally: what the storekeeper counts.
    counting: the supervisor's part: the table and its rows.
    measuring: a worker's part.
    pulse: what each process records once a second.
    scraping: the listener for scrapes.
    series: every series, with its labels and cells.
    table: the table in memory.
    text: the exposition format.
    vitals: CPU time and memory of a process.
"""
