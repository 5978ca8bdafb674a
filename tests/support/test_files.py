"""A file is written completely or not at all."""

import subprocess
import sys

import pytest

from feedback.support.files import locked, remove_leftovers, write_together, write_whole


def test_writes_text_and_bytes(tmp_path):
    """Text as UTF-8, bytes as they are; folders are made; nothing else is left."""
    write_whole(tmp_path / "new" / "a.txt", "é")
    write_whole(tmp_path / "new" / "a.txt", b"\x00")
    assert (tmp_path / "new" / "a.txt").read_bytes() == b"\x00"
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["a.txt"]


def test_failed_rename_leaves_the_old_file(tmp_path, monkeypatch):
    """If the last moment goes wrong, the old file stands and the new one is gone."""
    write_whole(tmp_path / "a", "old")
    monkeypatch.setattr("os.replace", lambda *a: (_ for _ in ()).throw(OSError(5, "gone")))
    with pytest.raises(OSError, match="gone"):
        write_whole(tmp_path / "a", "new")
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_full_disk_leaves_the_old_file(tmp_path):
    """A real failing write: the process may write no file larger than 1000 bytes."""
    write_whole(tmp_path / "a", "old")
    code = (
        "import resource, signal, sys; from pathlib import Path; "
        "from feedback.support.files import write_whole; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "write_whole(Path(sys.argv[1]), b'x' * 5000)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "a")], capture_output=True, text=True
    )
    assert f"OSError: [Errno 27] File too large: '{tmp_path / 'a'}'" in result.stderr
    assert (tmp_path / "a").read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("error", [OSError(28, "full"), KeyboardInterrupt()])
def test_files_that_belong_together(tmp_path, monkeypatch, error):
    """A full disk, or a Ctrl-C, at the second of two files leaves both old ones, and no others."""
    write_together({tmp_path / "a": "old a", tmp_path / "b": b"old b"})
    writes = []

    def fail_at_the_second(handle):
        writes.append(handle)
        if len(writes) == 2:
            raise error

    monkeypatch.setattr("os.fsync", fail_at_the_second)
    with pytest.raises(type(error)) as caught:
        write_together({tmp_path / "a": "new a", tmp_path / "b": b"new b"})
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a": "old a", "b": "old b"}
    if isinstance(error, OSError):
        assert caught.value.filename == str(tmp_path / "b")


def test_one_process_at_a_time(tmp_path):
    """The file is held until the block ends, by an exception too, or its process is killed."""
    path = tmp_path / "new" / "lock"
    with pytest.raises(KeyError), locked(path, "busy"):
        with pytest.raises(ValueError, match="busy"), locked(path, "busy"):
            pytest.fail("held twice")
        raise KeyError
    code = (
        "import sys; from pathlib import Path; from feedback.support.files import locked\n"
        "with locked(Path(sys.argv[1]), ''): print('held', flush=True); sys.stdin.read()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(ValueError, match="busy"), locked(path, "busy"):
            pytest.fail("held twice")
        process.kill()
        process.wait()
        with locked(path, "busy"):
            pass


def test_leftovers(tmp_path):
    """What a killed process leaves is removed, and nothing that only looks a little like it."""
    ours = {".a.txt.abcd_123", ".step_5.x.00000000"}
    others = {"a.txt", ".a.txt", ".a.txt.swp", ".b.txt.abcd_123", "a.txt.abcd_123"}
    for name in ours | others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, "a.txt", "step_*.x")
    remove_leftovers(tmp_path / "missing", "a.txt")
    assert {path.name for path in tmp_path.iterdir()} == others
