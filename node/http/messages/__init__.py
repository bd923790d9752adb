"""What routes read from requests and write into answers: tokens, bodies, queries, answers,
problems.

No decision about authority is made here.
"""
