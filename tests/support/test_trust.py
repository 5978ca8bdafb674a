"""Which folders are trusted, and what a terminal is sent."""

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback.support.trust import make_private, only_member, printable, untrusted

has_modes = pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no modes on Windows")


@has_modes
@pytest.mark.parametrize(
    ("above", "folder", "why"),
    [
        (0o755, 0o700, None),
        (0o1777, 0o755, None),
        (0o777, 0o700, "above"),
        (0o700, 0o777, "below"),
        (0o700, 0o1777, "below"),
    ],
)
def test_others_may_write(tmp_path, above, folder, why):
    """In the folder, or above it; there the sticky bit helps, in the folder itself it does not."""
    path = tmp_path / "above" / "below"
    make_private(path)
    path.chmod(folder)
    path.parent.chmod(above)
    said = untrusted(path)
    assert said is None if why is None else f"{why}; run chmod go-w" in said


@has_modes
@pytest.mark.parametrize("private", [False, True])
def test_the_group(tmp_path, monkeypatch, private):
    """May write only if it is this user's private group."""
    monkeypatch.setattr("feedback.support.trust.only_member", lambda group: private)
    tmp_path.chmod(0o770)
    assert (untrusted(tmp_path) is None) == private


@has_modes
def test_a_private_group(monkeypatch):
    """It has the user's name, and no other member; a group or a user without an entry is none."""
    grp, pwd = pytest.importorskip("grp"), pytest.importorskip("pwd")
    me = type("", (), {"pw_name": "ada"})
    monkeypatch.setattr(pwd, "getpwuid", lambda number: me)
    for name, members, expected in [("ada", [], True), ("ada", ["eve"], False), ("all", [], False)]:
        group = type("", (), {"gr_name": name, "gr_mem": members})
        monkeypatch.setattr(grp, "getgrgid", lambda number, group=group: group)
        assert only_member(7) == expected
    monkeypatch.setattr(pwd, "getpwuid", lambda number: {}[number])
    assert not only_member(7)


@has_modes
def test_another_owner(tmp_path, monkeypatch):
    """What belongs to somebody who is neither this user nor root can change at any time."""
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    owner = tmp_path.stat().st_uid
    expected = f"belongs to another user, number {owner}" if owner else None
    said = untrusted(tmp_path)
    assert said is None if expected is None else expected in said


@has_modes
def test_links_are_followed(tmp_path):
    """What counts is the folder that a link leads to, and those above that one."""
    (tmp_path / "open").mkdir()
    make_private(tmp_path / "open" / "real")
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "link").symlink_to(tmp_path / "open" / "real")
    assert "open; run chmod" in untrusted(tmp_path / "link")


@has_modes
def test_it_ends_at_the_temporary_folder(tmp_path, monkeypatch):
    """What is above it, or above the home folder, is not looked at."""
    make_private(tmp_path / "home" / "cache")
    tmp_path.chmod(0o777)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "home"))
    assert untrusted(tmp_path / "home" / "cache") is None
    monkeypatch.setattr(tempfile, "gettempdir", lambda: "/")
    assert untrusted(tmp_path / "home" / "cache") is not None
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert untrusted(tmp_path / "home" / "cache") is None


@has_modes
def test_private_folders(tmp_path):
    """Those made are closed to others, whatever the usual mode; those there stay as they are."""
    before = os.umask(0)
    try:
        (tmp_path / "there").mkdir(mode=0o755)
        make_private(tmp_path / "there" / "a" / "b")
        make_private(tmp_path / "there" / "a" / "b")
    finally:
        os.umask(before)
    modes = [Path(tmp_path, "there", *more).stat().st_mode & 0o777 for more in ((), "a", "ab")]
    assert modes == [0o755, 0o700, 0o700]


@given(st.text())
def test_no_control_character_is_printed(text):
    """Other characters, tabs and line breaks stay; the length does too."""
    shown = printable(text)
    assert len(shown) == len(text)
    assert not any((ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 for c in shown)
    assert all(a == b or b == "\ufffd" for a, b in zip(text, shown, strict=True))


def test_what_a_terminal_would_obey():
    """The title of its window, its cursor, its colours; and the direction of reading."""
    assert printable("a\x1b]0;x\x07\tb\n\x9b1m\r\u202eé\u2066") == "a�]0;x�\tb\n�1m��é�"
