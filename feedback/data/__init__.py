"""
---
title: Data
summary: Text, Tiny Shakespeare, and small worlds whose state must be tracked.
---
"""
