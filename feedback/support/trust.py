r"""
---
title: Trust
summary: Which folders nobody else can write to, and text that a terminal can show.
---

# Trust

Whoever can write into a folder decides what is in it, and whoever can write into a folder *above*
it can put another in its place. So `untrusted` walks up from a path and looks at the owner and the
mode of each folder on the way, as `ssh` does before it believes a key. It stops at the home folder
or the one for temporary files: somebody who controls those needs no help from this package.

Text is not harmless either: a terminal obeys what it is sent, and an escape sequence can rename
its window, or rewrite what was printed above. `printable` leaves only what can be read.
"""

import os
import stat
import sys
import tempfile
import unicodedata
from pathlib import Path


def only_member(group: int) -> bool:
    """
    Whether a group is the private one of this user. Many systems give each user a group of the same
    name, so what that group may write, nobody else may.
    """
    if sys.platform == "win32":
        return False
    import grp
    import pwd

    try:
        me, entry = pwd.getpwuid(os.getuid()), grp.getgrgid(group)
    except KeyError:
        return False
    return entry.gr_name == me.pw_name and set(entry.gr_mem) <= {me.pw_name}


def untrusted(path: Path) -> str | None:
    """
    ## Who else can write here?

    Why others could replace what is at `path`, which exists; `None` if they cannot. Everything up
    to the home folder or the temporary one, or else the root, must belong to this user or to root,
    and must not be writable by others. (In a folder with the sticky bit, such as `/tmp`, others
    can make files, but cannot rename or remove ours.) Windows keeps the folders of a user apart
    by other means, which are not looked at here.
    """
    if sys.platform == "win32":
        return None
    path = path.resolve()
    last = {Path(os.path.expanduser("~")).resolve(), Path(tempfile.gettempdir()).resolve()}
    for part in (path, *path.parents):
        found = part.stat()
        if found.st_uid not in (0, os.getuid()):
            return f"{part} belongs to another user, number {found.st_uid}"
        shared = found.st_mode & stat.S_IWOTH or (
            found.st_mode & stat.S_IWGRP and not only_member(found.st_gid)
        )
        if shared and (part == path or not found.st_mode & stat.S_ISVTX):
            return f"others can write to {part}; run chmod go-w on it"
        if part in last:
            break
    return None


def make_private(folder: Path) -> None:
    """Makes a folder, and those above it that are missing, for this user alone."""
    for part in (*reversed(folder.parents), folder):
        if not part.exists():
            part.mkdir(mode=0o700, exist_ok=True)


def printable(text: str) -> str:
    """
    ## Text for a terminal

    `text` with the replacement character instead of each control character, except tabs and line
    breaks, and instead of each character that only changes the direction of those around it.
    """
    hidden = {"Cc", "Cs"}
    turning = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}
    return "".join(
        c
        if c in "\n\t" or not (unicodedata.category(c) in hidden or ord(c) in turning)
        else "\N{REPLACEMENT CHARACTER}"
        for c in text
    )
