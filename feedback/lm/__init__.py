"""
---
title: Language models
summary: Tokens in, logits out; text generated step by step; trained models saved and loaded.
---
"""
