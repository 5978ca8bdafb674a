"""
---
title: Data
summary: Text, Tiny Shakespeare, and small worlds whose state has to be followed.
---
"""
