"""
---
title: Studies
summary: Experiments that are no contests: each asks one question of models trained here.
---
"""
