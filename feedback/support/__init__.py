"""
---
title: Support
summary: Checked values, files that are whole or absent, and a Ctrl-C that lets the step finish.
---
"""
