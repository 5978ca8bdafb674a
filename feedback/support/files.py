r"""
---
title: Files
summary: Write a file completely or not at all; and where caches are.
---

# Files

A disk that is full, a laptop that is closed, a second Ctrl-C: each of them likes to come in the
middle of a write. So nothing in this package writes over a file. It writes beside it, and then
renames, which a file system does at once or not at all.
"""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_folder() -> Path:
    """
    Where all that can be had again is kept, the text and the compiled loop: `$FEEDBACK_CACHE`, or
    the system's folder for caches.
    """
    # `appauthor=False`, or the path on Windows would hold the name twice.
    system = platformdirs.user_cache_dir("feedback-transformer", appauthor=False)
    return Path(os.environ.get("FEEDBACK_CACHE") or system)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Lets an `OSError` say which file it is about; a failed write does not on its own."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_whole(path: Path, data: bytes | str) -> None:
    """
    Writes `data`, text as UTF-8, to `path`. If anything fails, an older `path` is untouched,
    the half-written file is gone, and the `OSError` goes on to the caller.
    """
    write_together({path: data})


def write_together(files: dict[Path, bytes | str]) -> None:
    """
    The same for files that mean nothing without each other: no old one is replaced before all
    the new ones are on the disk.
    """
    temporaries: dict[Path, Path] = {}
    try:
        for path, data in files.items():
            with naming(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
                temporaries[path] = Path(name)
                with open(handle, "wb") as file:
                    file.write(data.encode() if isinstance(data, str) else data)
                    file.flush()
                    os.fsync(file.fileno())
                # `mkstemp` makes private files; this one is as readable as any other there.
                temporaries[path].chmod(0o644)
        for path, temporary in temporaries.items():
            os.replace(temporary, path)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)
