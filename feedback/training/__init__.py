"""
---
title: Training
summary: The loop, the decisions before its first step, and the folder that it writes.
---
"""
