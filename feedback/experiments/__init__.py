"""
---
title: Experiments
summary: What feedback is worth: tasks, contestants, and the protocol by which they are compared.
---
"""
