r"""
---
title: Files
summary: Write a file completely or not at all.
---

# Files

A disk that is full, a laptop that is closed, a second Ctrl-C: each of them likes to come in the
middle of a write. So nothing in this package writes over a file. It writes beside it, and then
renames, which a file system does at once or not at all.
"""

import os
import tempfile
from pathlib import Path


def write_whole(path: Path, data: bytes | str) -> None:
    """
    Writes `data`, text as UTF-8, to `path`. If anything fails, an older `path` is untouched,
    the half-written file is gone, and the `OSError` goes on to the caller.
    """
    data = data.encode() if isinstance(data, str) else data
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with open(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # `mkstemp` makes private files; this one is as readable as any other in the folder.
        temporary.chmod(0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
