"""
enwik8 arrives whole and right, from the cache or the network, or an error says why not.

A toy takes its place: a few bytes, in an archive on a local server, with a SHA-256 of their own.

Run: `python -m pytest tests/data/test_enwik8.py`
"""

import hashlib
import io
import os
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import torch

from feedback.data import enwik8
from feedback.data.enwik8 import load_enwik8
from feedback.data.text import load_corpus

TOY = bytes(range(256)) * 4 + b"<page>" * 96


def zipped(data: bytes, name: str = "enwik8") -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def toy(monkeypatch, tmp_path):
    """The toy is what is expected, the cache is an empty folder, and no server answers."""
    monkeypatch.setattr(enwik8, "SHA256", hashlib.sha256(TOY).hexdigest())
    monkeypatch.setattr(enwik8, "SIZE", len(TOY))
    monkeypatch.setattr(enwik8, "URL", "http://127.0.0.1:9/enwik8.zip")
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path / "cache"))
    # A proxy would be asked in place of the server.
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def serve(monkeypatch):
    """`serve(body)` makes a local server the address; returns its list of requests."""
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
        url = f"http://127.0.0.1:{server.server_port}/enwik8.zip"
        monkeypatch.setattr(enwik8, "URL", url)
        return requests

    yield start
    for server, thread in running:
        server.shutdown()
        thread.join()
        server.server_close()


def test_download_is_used_and_cached(serve, tmp_path):
    """The first call asks the server, the second only the cache, which holds the file itself."""
    requests = serve(zipped(TOY))
    assert load_enwik8() == TOY == load_enwik8()
    assert requests == ["/enwik8.zip"]
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["enwik8"]
    assert (tmp_path / "cache" / "enwik8").read_bytes() == TOY


def test_a_good_cache_needs_no_network(serve, tmp_path):
    """The file can be put there by hand; it is not asked for, and not written."""
    requests = serve(zipped(TOY))
    path = tmp_path / "enwik8"
    path.write_bytes(TOY)
    before = path.stat().st_mtime_ns
    assert load_enwik8(tmp_path) == TOY
    assert path.stat().st_mtime_ns == before and requests == []


@pytest.mark.parametrize(
    "damaged", [TOY[:-1], b"\xff" + TOY[1:], b""], ids=["cut", "altered", "empty"]
)
def test_a_damaged_cache_is_repaired(serve, tmp_path, damaged):
    """It is noticed, and the right file takes its place, with nothing left beside it."""
    serve(zipped(TOY))
    path = tmp_path / "enwik8"
    path.write_bytes(damaged)
    assert load_enwik8(tmp_path) == TOY == path.read_bytes()
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (zipped(TOY[::-1]), 200, "1,600 bytes with SHA-256"),
        (zipped(TOY * 1000), 200, "1,601 bytes with SHA-256"),
        (zipped(TOY, "other"), 200, "bytes that are no archive of enwik8"),
        (zipped(TOY)[:-30], 200, "bytes that are no archive of enwik8"),
        (b"please log in", 200, "13 bytes that are no archive of enwik8"),
        (b"gone", 404, "404"),
    ],
    ids=["altered", "too long", "another file", "cut", "portal", "gone"],
)
def test_a_wrong_download_is_refused(serve, tmp_path, body, status, words):
    """The error is one line that says what came, and nothing is kept."""
    serve(body, status)
    with pytest.raises(ValueError) as caught:
        load_enwik8(tmp_path)
    message = str(caught.value)
    assert words in message and "\n" not in message
    assert list(tmp_path.iterdir()) == []


def test_no_network(tmp_path):
    """The error names both places and the way out."""
    with pytest.raises(ValueError, match=r"from either of two places: the cache \(.*the download"):
        load_enwik8(tmp_path)
    with pytest.raises(ValueError, match=f"unzip http.*save the file as {tmp_path / 'enwik8'}"):
        load_enwik8(tmp_path)


def test_a_slow_download_is_given_up(serve, monkeypatch, tmp_path):
    """Each wait is short, and so is their sum."""
    serve(zipped(TOY))
    monkeypatch.setattr(enwik8, "TOTAL_SECONDS", -1)
    with pytest.raises(ValueError, match="bytes came in -1 seconds"):
        load_enwik8(tmp_path)


def test_an_interrupted_write_leaves_no_half_file(serve, monkeypatch, tmp_path):
    """If the cache cannot be written the bytes are returned all the same."""
    serve(zipped(TOY))

    def stop(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", stop)
    assert load_enwik8(tmp_path) == TOY
    assert list(tmp_path.iterdir()) == []


def test_the_corpus_is_the_first_two_parts(serve):
    """90 % for training, the next 5 % for validation, and the last 5 % is not read."""
    serve(zipped(TOY))
    tokenizer, corpus = load_corpus("enwik8", "bytes")
    assert len(tokenizer) == 256 and corpus.bytes_per_token == 1
    assert (len(corpus.train), len(corpus.val)) == (1440, 80)
    read = torch.cat([corpus.train, corpus.val])
    assert bytes(read.tolist()) == TOY[:1520]


def test_the_parts_of_the_real_file():
    """The usual ones: 90 million bytes, 5 million, and 5 million."""
    assert 100_000_000 * (enwik8.TRAIN + enwik8.VAL) // 100 == 95_000_000
    assert 95_000_000 * enwik8.TRAIN // (enwik8.TRAIN + enwik8.VAL) == 90_000_000


def test_it_is_bytes():
    """With another tokenizer the error says which one to use."""
    with pytest.raises(ValueError, match=r"data is 'enwik8', .* use tokenizer bytes"):
        load_corpus("enwik8", "characters")
