"""The detector over HTTP: uploads in, reports out; for programs, and for people through one page.

::

    guard ──► keys ──► uploads ──► batching ──► answers ──► problems or reports
                                      │
                          jobs ───────┤ (the same, later)
                                      └── results (what was examined before)
"""
