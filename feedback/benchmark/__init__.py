"""
---
title: Measuring
summary: How fast and how large, side by side with others on this machine.
---
"""
