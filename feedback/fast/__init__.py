"""
---
title: Exact and fast
summary: The same recurrence, computed quickly, and the whole sequence as one function.
---
"""
