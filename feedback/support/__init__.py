"""
---
title: Support
summary: Checked values, files that are whole or absent, Ctrl-C that can wait.
---
"""
