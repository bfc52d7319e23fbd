"""The detector over HTTP: uploads in, reports out; for programs, and for people through one page.

::

    access ──► uploads ──► batching ──► problems or reports
                               │
                       jobs ───┤ (the same, later)
                               └── store (what was examined before)
"""
