"""The C++ loop is compiled where that is possible, and only what was compiled here is loaded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from parity import SMALL, needs_the_library

from feedback import FeedbackLM, ModelConfig
from feedback.fast import compiled


def step(implementation: str) -> None:
    """Forward and backward."""
    logits, _ = FeedbackLM(ModelConfig(**SMALL), implementation)(
        torch.zeros(2, 5, dtype=torch.long)
    )
    logits.sum().backward()


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        ("/no/such/compiler", r"the C\+\+ loop could not be built or loaded: .*No such file"),
        ("false", "false could not compile the C\\+\\+ loop: exit code 1"),
        ("c++ -no-such-option", r"c\+\+ could not compile .*no-such-option"),
        ("c++ '", r"\$CXX is .*, expected a command: No closing quotation"),
        (" ", None),
    ],
)
def test_a_broken_compiler_is_no_error(monkeypatch, tmp_path, compiler, words):
    """Where nothing can be compiled, "auto" still runs, "native" says why, and no file is left."""
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    if words is None:
        monkeypatch.setenv("PATH", "")
        words = "there is no C\\+\\+ compiler here; install one, or name it in"
    step("auto")  # The warning is not an error: see the filters in pyproject.toml.
    with pytest.raises(ValueError, match=f"'native' cannot run here: {words}"):
        step("native")
    assert list(tmp_path.iterdir()) == []


def quick() -> tuple[str, ...]:
    """The compiler, in a hurry."""
    return (*compiled.compiler(), "-O0")


@needs_the_library
def test_compiled_once(monkeypatch, tmp_path):
    """The second process finds the library in the cache."""
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    seen = commands(monkeypatch)
    for _ in range(2):
        found, _ = compiled.load.__wrapped__(quick(), tmp_path)
        assert found is not None
    assert len(seen) == 1
    assert [p.suffix for p in tmp_path.iterdir()] == [".so"]


def commands(monkeypatch) -> list[list[str]]:
    """The list to which every command that is run from now on is added."""
    seen, run = [], compiled.run
    monkeypatch.setattr(compiled, "run", lambda c: seen.append(c) or run(c))
    return seen


@needs_the_library
def test_several_words_and_options(monkeypatch, tmp_path):
    """`$CXX` may begin with a wrapper, and its options come last, so that they win."""
    monkeypatch.setenv("CXX", "env c++ -O0 -march=x86-64 -DMARGIN=16")
    seen = commands(monkeypatch)
    found, why = compiled.load(compiled.compiler(), tmp_path)
    assert found is not None and why is None
    assert seen[0][:2] == ["env", "c++"]
    assert seen[0].index("-march=native") < seen[0].index("-march=x86-64") < len(seen[0]) - 3


@needs_the_library
@pytest.mark.parametrize("refused", [1, 2, 3])
def test_flags_that_the_compiler_accepts(monkeypatch, tmp_path, refused):
    """Flags that this compiler refuses are left out, one choice after the other."""
    wrong = [("-no-such-flag",)] * refused
    monkeypatch.setattr(compiled, "CHOICES", (*wrong, *compiled.CHOICES[:1]))
    seen = commands(monkeypatch)
    found, _ = compiled.load.__wrapped__(quick(), tmp_path)
    assert found is not None and len(seen) == refused + 1


@needs_the_library
def test_another_layout_is_refused(monkeypatch, tmp_path):
    """A library whose struct has another size than the fields it names is not used."""
    source = tmp_path / "native.cpp"
    text = compiled.SOURCE.read_text().replace("sizeof(Arguments<float>)", "8")
    source.write_text(text.replace("cpp/", f"{compiled.SOURCE.parent}/cpp/"))
    monkeypatch.setattr(compiled, "SOURCE", source)
    with pytest.warns(RuntimeWarning, match="PyTorch is used, which is slower: the C"):
        found, why = compiled.load(quick(), tmp_path)
    assert found is None and "lays out its arguments differently" in why
    assert not list(tmp_path.glob("*.so"))


def make_library(folder, words=("compiler",), content=b"built"):
    """A file with the name of what these words have built, in place of a library."""
    path = folder / compiled.file_name(words, content)
    path.write_bytes(content)
    path.chmod(0o700)
    return path


@pytest.mark.parametrize(
    ("damage", "good"),
    [
        (lambda path: None, True),
        (lambda path: path.write_bytes(b"built"[:3]), False),
        (lambda path: path.write_bytes(b"other"), False),
        (lambda path: path.chmod(0o722), False),
        (lambda path: path.rename(path.with_name(path.name.replace(".so", "0.so"))), False),
    ],
    ids=["as it was", "truncated", "replaced", "others may write", "renamed"],
)
def test_only_what_was_built_is_loaded(tmp_path, damage, good):
    """A library whose content is not the one in its name is deleted, and so is built again."""
    path = make_library(tmp_path)
    damage(path)
    assert compiled.kept(("compiler",), tmp_path) == (path if good else None)
    assert len(list(tmp_path.iterdir())) == good
    assert compiled.kept(("another",), tmp_path) is None


@needs_the_library
def test_a_damaged_library_is_built_again(tmp_path):
    """Cut in half, it would be a bus error to load; it is replaced by the whole one."""
    words = quick()
    path = compiled.keep(words, tmp_path)
    os.truncate(path, path.stat().st_size // 2)
    assert compiled.load.__wrapped__(words, tmp_path)[0] is not None
    (again,) = tmp_path.glob("*.so")
    assert again.name == compiled.file_name(words, again.read_bytes())


@pytest.mark.parametrize("at", ["folder", "above"])
@pytest.mark.skipif(not hasattr(os, "getuid"), reason="there are no modes on Windows")
def test_a_folder_that_others_can_write_to(tmp_path, at):
    """Neither the folder nor one above it: nothing is built there, and the reason helps."""
    folder = tmp_path / "above" / "folder"
    compiled.make_private(folder)
    (tmp_path / "above").chmod(0o777 if at == "above" else 0o700)
    folder.chmod(0o777 if at == "folder" else 0o700)
    with pytest.warns(RuntimeWarning, match="slower"):
        library, why = compiled.load(("c++",), folder)
    assert library is None and list(folder.iterdir()) == []
    assert f"others can write to {tmp_path / 'above'}" in why and "chmod go-w" in why


def test_options_in_cxx_with_a_wrapper(monkeypatch, tmp_path):
    """`ccache g++ -O1`: the wrapper is first, our flags follow the compiler, its options win."""
    seen = []

    def run(command):
        seen.append(command)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(compiled, "run", run)
    compiled.build(("ccache", "g++", "-O1"), tmp_path / "x.so")
    (command,) = seen
    assert command[:3] == ["ccache", "g++", "-march=native"]
    assert command.index("-O3") < command.index("-O1")


@pytest.mark.parametrize(
    ("code", "said", "tries"),
    [
        (1, "error: unrecognized command-line option", len(compiled.CHOICES)),
        (-2, "", 1),
        (1, "c++: fatal error: Interrupted signal terminated program cc1plus", 1),
        (1, "c++: fatal error: Killed signal terminated program cc1plus", 1),
        (1, "fatal error: error writing to x.s: No space left on device", 1),
    ],
)
def test_an_interruption_is_not_a_refusal(monkeypatch, tmp_path, code, said, tries):
    """A compiler that was stopped says nothing about its flags, so no weaker ones are tried."""
    seen = []

    def run(command):
        seen.append(command)
        return subprocess.CompletedProcess(command, code, "", said)

    monkeypatch.setattr(compiled, "run", run)
    with pytest.raises(subprocess.CalledProcessError):
        compiled.build(("c++",), tmp_path / "x.so")
    assert len(seen) == tries


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="there are no process groups on Windows")
def test_ctrl_c_in_the_first_compile(tmp_path):
    """Python ends, the compiler and its children too, and nothing is left in the cache."""
    script = tmp_path / "compiler"
    script.write_text(f"#!/bin/sh\nsleep 600 &\necho $! > {tmp_path}/child\nwait\n")
    script.chmod(0o700)
    code = "from feedback.fast.compiled import missing; print(missing())"
    cache = tmp_path / "cache"
    environment = {**os.environ, "CXX": str(script), "FEEDBACK_CACHE": str(cache)}
    with subprocess.Popen(
        [sys.executable, "-c", code], env=environment, start_new_session=True, stderr=-1
    ) as process:
        child = tmp_path / "child"
        wait_until(lambda: child.exists() and child.read_text().strip())
        os.killpg(process.pid, signal.SIGINT)  # As a terminal does.
        assert process.wait(60) != 0 and b"KeyboardInterrupt" in process.stderr.read()
    assert list(cache.iterdir()) == []
    wait_until(lambda: ended(int(child.read_text())))


def wait_until(condition) -> None:
    """Returns when the condition holds; gives up after a minute."""
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(number: int) -> bool:
    """Whether there is no such process, or only its exit code is left of it."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return True
    status = Path(f"/proc/{number}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] == "Z"


@needs_the_library
def test_several_processes_at_once(tmp_path):
    """Four processes with one empty cache: each loads a library, and what is left is whole."""
    whole = compiled.kept(compiled.compiler(), compiled.trusted(compiled.cache_folder()))
    # As slow as a compiler, but for everyone at once.
    script = tmp_path / "compiler"
    script.write_text(f'#!/bin/sh\nsleep 1\nfor last; do :; done\ncp "{whole}" "$last"\n')
    script.chmod(0o700)
    code = "from feedback.fast.compiled import library; print(library().call('panel', 'float'))"
    cache = tmp_path / "cache"
    environment = {**os.environ, "FEEDBACK_CACHE": str(cache), "CXX": str(script)}
    command = [sys.executable, "-c", code]
    started = [subprocess.Popen(command, env=environment, stdout=-1) for _ in range(4)]
    said = {process.communicate()[0] for process in started}
    assert len(said) == 1 and all(process.returncode == 0 for process in started)
    assert [p.name for p in cache.iterdir()] == [
        compiled.file_name((str(script),), whole.read_bytes())
    ]


@needs_the_library
def test_a_failure_is_said_once(monkeypatch, tmp_path):
    """One warning for a compiler that fails, however often the loop is asked for."""
    monkeypatch.setenv("CXX", "false")
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    with pytest.warns(RuntimeWarning) as caught:
        assert compiled.missing() == compiled.missing() != None  # noqa: E711
    assert len(caught) == 1
