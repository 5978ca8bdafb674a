"""
---
title: Measuring
summary: Speed and memory, side by side with others on this machine.
---
"""
