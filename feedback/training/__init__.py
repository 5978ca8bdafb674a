"""
---
title: Training
summary: The loop, what it decides before its first step, and the folder that it leaves.
---
"""
