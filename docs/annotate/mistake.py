r"""
---
title: Mistakes
summary: What is wrong in a source: the file, the line, and what to do.
---

# Mistakes

Somebody whose build fails has edited something, and wants to know where the mistake is. So an error
names the file and the line, and says what is wrong there and how to repair it.
"""


class Mistake(ValueError):
    """Something wrong in a source: the file, the line, what it is, and what to do."""

    def __init__(self, path: str, line: int, problem: str, remedy: str):
        super().__init__(f"{path}:{line}: {problem}; {remedy}")
