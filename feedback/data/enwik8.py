r"""
---
title: enwik8
summary: A hundred million bytes of Wikipedia, downloaded once, and the right ones or none.
---

# enwik8

Tiny Shakespeare is read in a minute. What does a model do with a hundred times as much? enwik8 is
the first 100,000,000 bytes of a dump of the English Wikipedia, prepared by [Matt
Mahoney](http://mattmahoney.net/dc/textdata.html) as a test for programs that compress. It is left
as it was, markup and all, and read byte by byte, which makes it a hard test for language models
too: the authors of the Feedback Transformer report theirs in bits per character.

Numbers can be compared only if everyone divides the bytes in the same way: the first 90 % for
training, the next 5 % for validation, and the last 5 % for a test at the very end. Here training
reads the first two parts and never touches the third.

The file is too large to come with the package. It is downloaded once, kept in the cache, and
believed only if it has the right SHA-256.
"""

import contextlib
import hashlib
import io
import time
import zipfile
import zlib
from http.client import HTTPException
from pathlib import Path
from urllib.request import urlopen

from ..support.checks import require
from ..support.files import cache_folder, write_whole

URL = "http://mattmahoney.net/dc/enwik8.zip"
NAME = "enwik8"
"""The file in the archive, and in the cache."""
SIZE = 100_000_000
SHA256 = "2b49720ec4d78c3c9fabaee6e4179a5e997302b3a70029f30f2d582218c024a8"
"""Of the file, not of the archive."""
TRAIN, VAL = 90, 5
"""The parts for training and for validation, in percent; the rest is for a test."""
WAIT_SECONDS, TOTAL_SECONDS = 10, 900


def verified(data: bytes) -> bytes:
    """Returns `data` if it is enwik8, else raises `ValueError`."""
    digest = hashlib.sha256(data).hexdigest()
    require(
        digest == SHA256,
        f"{len(data):,} bytes with SHA-256 {digest[:8]}..., expected {SHA256[:8]}...",
    )
    return data


def unzip(archive: bytes) -> bytes:
    """The file in the archive; raises `ValueError` if there is none."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as files, files.open(NAME) as file:
            # One byte too many is enough to be refused, however many there are.
            return file.read(SIZE + 1)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
        raise ValueError(f"{len(archive):,} bytes that are no archive of {NAME}") from error


def download() -> bytes:
    """Fetches the archive from `URL`, 35 MiB; gives up after about `TOTAL_SECONDS`."""
    deadline = time.monotonic() + TOTAL_SECONDS
    data = bytearray()
    with urlopen(URL, timeout=WAIT_SECONDS) as response:
        while chunk := response.read1(1 << 16):
            data += chunk
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(data):,} bytes came in {TOTAL_SECONDS} seconds")
    return verified(unzip(bytes(data)))


def load_enwik8(cache_dir: Path | None = None) -> bytes:
    """
    ## Load the bytes

    All of them, from the file `enwik8` in the cache, or else from the network. A cached file that
    is missing or damaged is written anew; if it cannot be written, the bytes are returned all the
    same. `cache_dir` is the folder of the cache, by default that of all caches, see `files`.

    Raises `ValueError` if both fail, with the reason for each.
    """
    path = Path(cache_dir or cache_folder()) / NAME
    sources = {"the cache": lambda: verified(path.read_bytes()), "the download": download}
    failures = []
    for name, source in sources.items():
        try:
            data = source()
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{name} ({error})")
            continue
        # The cache is tried first: without a failure it was valid and need not be written.
        if failures:
            with contextlib.suppress(OSError):
                write_whole(path, data)
        return data
    # In one line: an operating system's message may contain line breaks.
    reasons = " ".join(", ".join(failures).split())
    raise ValueError(
        f"enwik8 could not be loaded from either of two places: {reasons}; connect to the "
        f"internet, or unzip {URL} and save the file as {path}"
    )
