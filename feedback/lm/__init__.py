"""
---
title: Language models
summary: Tokens in, logits out; a text, step by step; a folder with a trained model.
---
"""
