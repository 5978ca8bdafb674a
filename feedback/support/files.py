r"""
---
title: Files
summary: Write a file completely or not at all, one process at a time; and where caches are.
---

# Files

A full disk, a closed laptop, a second Ctrl-C: any of them can come in the middle of a write. So
this package never overwrites a file. It writes a new file next to the old one and then renames it,
which a file system does completely or not at all. (Metrics are the exception: a line is appended.)
"""

import os
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import platformdirs

from .checks import require, require_fits

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

NO_HOME = "there is no home directory for the cache; name a folder in $FEEDBACK_CACHE"


def cache_folder() -> Path:
    """
    The folder for what can be made or downloaded again, the text and the compiled loop:
    `$FEEDBACK_CACHE`, or the system's folder for caches. Raises `OSError` if there is neither, as
    in a container whose user has no home directory.
    """
    if chosen := os.environ.get("FEEDBACK_CACHE"):
        return Path(chosen)
    try:
        # Without `appauthor=False` the path on Windows would contain the name twice.
        system = platformdirs.user_cache_dir("feedback-transformer", appauthor=False)
    except (RuntimeError, KeyError) as error:
        raise OSError(NO_HOME) from error
    # Some versions leave the home directory as it is written if there is none.
    if system.startswith("~"):
        raise OSError(NO_HOME)
    return Path(system)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds to an `OSError` the file it is about, which a failed write does not name by itself."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def read_file(path: Path, most: int | None = None) -> bytes:
    """
    The content of a file. Raises `ValueError` if it is larger than `most` bytes or the memory of
    this machine, or if it is no regular file: a pipe may keep its reader waiting for ever, and a
    device such as `/dev/zero` has no end.
    """
    # Without O_NONBLOCK, opening a pipe waits until somebody writes to it.
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with naming(path), open(handle, "rb") as file:
        found = os.fstat(handle)
        require(stat.S_ISREG(found.st_mode), f"{path} is no regular file, expected one")
        require_fits(found.st_size, str(path))
        limit = found.st_size if most is None else most
        require(
            found.st_size <= limit,
            f"{path} has {found.st_size:,} bytes, expected at most {limit:,}",
        )
        return file.read(found.st_size)


def write_whole(path: Path, data: bytes | str) -> None:
    """
    Writes `data`, text as UTF-8, to `path`. If anything fails, an existing file is unchanged,
    the half-written one is removed, and the `OSError` goes on to the caller.
    """
    write_together({path: data})


def write_together(files: dict[Path, bytes | str]) -> None:
    """
    Like `write_whole`, for files that mean nothing without each other: no old one is replaced
    before all the new ones are on the disk.
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
        for folder in {path.parent for path in files}:
            sync(folder)
    finally:
        for temporary in temporaries.values():
            temporary.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """
    Returns when a file, or the names of the files in a folder, are on the disk and would outlast a
    power cut; where the system cannot do that for a folder, at once.
    """
    with suppress(OSError) if path.is_dir() else naming(path):
        handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_leftovers(folder: Path, *names: str) -> None:
    """Removes what `write_whole` leaves in a folder if its process is killed; `names` may be *."""
    for name in names:
        # `mkstemp` puts eight characters behind the name.
        for path in folder.glob(f".{name}.????????"):
            path.unlink(missing_ok=True)


@contextmanager
def locked(path: Path, message: str) -> Iterator[None]:
    """
    ## One process at a time

    Holds the file `path`, which is made and stays; raises `ValueError(message)` at once if another
    process holds it. It is the system that lets go of it when a process ends, however it ends.
    (Where a file system has no locks, nothing is held.)
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("ab") as file:
        free = True
        try:
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            free = not isinstance(error, BlockingIOError | PermissionError)
        require(free, message)
        yield


@contextmanager
def in_turn(path: Path) -> Iterator[None]:
    """
    As `locked`, but waits for its turn: what is read and written inside, other processes that do
    the same read and write before or after.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path), path.open("ab") as file:
        with suppress(OSError):
            if sys.platform == "win32":
                msvcrt.locking(file.fileno(), msvcrt.LK_LOCK, 1)
            else:
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
