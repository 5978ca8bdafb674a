"""Whatever is asked for: too much, nothing, or something else. One line says so, at once."""

import json
import os
import signal
import subprocess
import sys
import time
from itertools import product
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from feedback import FeedbackLM, ModelConfig, TrainConfig
from feedback.__main__ import main
from feedback.commands import show
from feedback.data.text import load_bytes, load_text, split
from feedback.data.tokenizer import Bytes, Characters, in_pieces, make_tokenizer, number
from feedback.lm.generate import choose
from feedback.support import checks
from feedback.support.files import read_file

SMALL = {"vocab_size": 11, "d_model": 12, "n_heads": 3, "d_ff": 20, "mem_len": 7}


@pytest.mark.parametrize("share_kv", [False, True])
@pytest.mark.parametrize("activation", ["relu", "swiglu"])
def test_the_number_of_parameters_is_known_before(share_kv, activation):
    """`ModelConfig.parameters` counts what the model then has."""
    for norm_memory, adaptive_span, d_k in product([False, True], [False, True], [None, 5]):
        config = ModelConfig(
            **SMALL,
            **dict(n_layers=2, d_k=d_k, share_kv=share_kv, activation=activation),
            **dict(norm_memory=norm_memory, adaptive_span=adaptive_span),
        )
        assert config.parameters == sum(p.numel() for p in FeedbackLM(config).parameters())


HUGE = (10**9, 10**14, 10**300)


@pytest.mark.parametrize("value", HUGE)
@pytest.mark.parametrize(
    "name", ["vocab_size", "d_model", "n_layers", "n_heads", "d_k", "d_ff", "mem_len", "span_ramp"]
)
def test_a_model_that_no_machine_holds(monkeypatch, name, value):
    """Refused where it is described, so that nothing is ever allocated for it."""
    monkeypatch.setattr(checks, "machine_memory", lambda: 2**36)
    if (name, value) == ("span_ramp", 10**9):
        return  # That is only a number.
    with pytest.raises(ValueError, match=r"would take|expected at most") as caught:
        ModelConfig(**{"d_k": 8, name: value})
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [10**12, 10**300])
@pytest.mark.parametrize(
    "name",
    ["batch_size", "seq_len", "max_steps", "warmup_steps", "eval_steps", "checkpoint_steps"],
)
def test_a_run_that_no_machine_takes(monkeypatch, name, value):
    """The same for a batch, and for steps that no disk has room for."""
    monkeypatch.setattr(checks, "machine_memory", lambda: 2**36)
    with pytest.raises(ValueError, match=r"would take|expected at most") as caught:
        TrainConfig(**{name: value})
    assert len(str(caught.value)) < 500


def test_what_a_model_makes_of_a_batch(monkeypatch):
    """The states of all layers and the logits count; `accumulate` makes them fewer."""
    monkeypatch.setattr(checks, "machine_memory", lambda: 2**30)
    model = ModelConfig(d_model=128, n_layers=4)
    TrainConfig(batch_size=2**12, accumulate=4).require_fits(model)
    with pytest.raises(ValueError, match="a batch of this batch_size and seq_len would take"):
        TrainConfig(batch_size=2**13).require_fits(model)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_new_tokens": 10**15}, "would take 7,450,580.6 GiB"),
        ({"max_new_tokens": -1}, "max_new_tokens is -1"),
        ({"max_new_tokens": 1.5}, "max_new_tokens is 1.5"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 10**400}, "temperature is 1000"),
        ({"top_k": 0}, "top_k is 0"),
        ({"top_p": "a"}, "top_p is 'a'"),
    ],
)
def test_options_of_generate(options, words):
    """Each out of its range, with a model that is there."""
    model = FeedbackLM(ModelConfig(**SMALL))
    with pytest.raises(ValueError, match=words):
        model.generate(torch.zeros(1, 2, dtype=torch.long), **options)


@pytest.mark.parametrize(
    "options",
    [{"temperature": 1e-46}, {"temperature": 5e-324}, {"top_p": 1e-300}, {"top_k": 1}],
)
def test_numbers_that_are_almost_nothing(options):
    """Too small for float32, they still leave the likeliest token, and nothing else."""
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    assert torch.equal(choose(logits, **options), logits.argmax(-1))
    choose(logits, top_k=10**30, temperature=1e300)


def test_logits_that_are_not_finite():
    """No token can be chosen, whichever way."""
    for value, temperature in product([float("nan"), float("inf")], [0.0, 1.0]):
        with pytest.raises(ValueError, match="not finite"):
            choose(torch.tensor([[0.0, value]]), temperature)


def trained(folder: Path) -> Path:
    """The folder of a small model."""
    FeedbackLM(ModelConfig(**SMALL)).save_pretrained(
        folder, extra=Characters("abcdefghijk").to_dict()
    )
    return folder


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.fill_(float("nan")), "values that are not finite"),
        (lambda w: w.to(torch.int8), "of type torch.int8, expected floating-point"),
        (lambda w: w.to(torch.complex64), "of type torch.complex64, expected floating"),
    ],
)
def test_weights_that_are_no_weights(tmp_path, change, words):
    """Numbers that no model computes with are refused when they are loaded."""
    path = trained(tmp_path) / "model.safetensors"
    weights = load_file(path)
    save_file({**weights, "head.weight": change(weights["head.weight"])}, path)
    with pytest.raises(ValueError, match=f"head.weight .*{words}"):
        FeedbackLM.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        '{"d_model": 1' + "0" * 399 + "}",
        '{"d_model": 1' + "0" * 9999 + "}",
        '{"n_layers": 100000000000000}',
        '{"dropout": 1e999}',
        '{"activation": ["relu"]}',
        '{"activation": {}}',
        '{"d_ff": true}',
        "null",
        "",
        "\x00",
    ],
    ids=range(12),
)
def test_a_hostile_config(tmp_path, capsys, content):
    """Deep, long, large, of another type: exit code 2 and one line of moderate length."""
    (trained(tmp_path) / "config.json").write_text(content)
    assert main(["generate", "--run", str(tmp_path)]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err.startswith("feedback: ") and len(err) < 700


def test_an_architecture_that_is_no_name(tmp_path, capsys):
    """A list where a name is expected."""
    path = trained(tmp_path) / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "architecture": [1]}))
    assert main(["generate", "--run", str(tmp_path), "--prompt", "a"]) == 2
    assert "holds a [1], expected a FeedbackLM" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --n-layers 100000000000000", "n_layers is 100000000000000, expected at most"),
        ("train --d-model 1000000000", "would take"),
        ("train --batch-size 1000000000000", "a batch of this batch_size and seq_len would take"),
        ("train --data ~nosuchuser/x", "data is '~nosuchuser/x', but there is no such home"),
        ("train --tokenizer ~nosuchuser/x", "tokenizer is '~nosuchuser/x', but there is no such"),
        ("train --data ", "--data is empty"),
        ("train --data=", "--data is empty"),
        ("train --run ", "--run is empty"),
        ("generate --run=", "--run is empty"),
        ("plot ", "plot is empty"),
        ("generate --run r --device meta", "device is 'meta', unusable here"),
        ("generate --run r --prompt a --max-new-tokens 1000000000000000", "would take"),
        ("generate --run r --prompt a --samples 1000000000000", "would take"),
    ],
)
def test_one_line(tmp_path, monkeypatch, capsys, arguments, words):
    """On the command line: exit code 2, one line, and nothing written."""
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "r")
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments.split(" ")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and words in err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("[...] not enough memory: you tried")]
)
def test_no_memory(monkeypatch, capsys, error):
    """If there is less memory than the machine has, that is one line too; no other error is."""

    def fail(args):
        raise error

    monkeypatch.setattr("feedback.__main__.parse", fail)
    assert main([]) == 2
    assert "not enough memory" in capsys.readouterr().err
    error = RuntimeError("a bug")
    with pytest.raises(RuntimeError, match="a bug"):
        main([])


def test_long_values_are_cut():
    """An error message names a value, but has moderate length whatever it is."""
    for value in ("a" * 10**6, 10**4000, 10**5000, [[["a" * 999]] * 99], {"a": "b" * 10**5}):
        with pytest.raises(ValueError, match=r"^x is .*, expected something$") as caught:
            checks.expect(False, "x", value, "something")
        assert len(str(caught.value)) < 1500


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
@pytest.mark.parametrize("load", [load_text, load_bytes, read_file])
def test_files_without_an_end(tmp_path, load):
    """A pipe would wait for a writer for ever, and a device has no end."""
    os.mkfifo(tmp_path / "pipe")
    for path in (str(tmp_path / "pipe"), "/dev/zero"):
        with pytest.raises(ValueError, match=f"{path} is no regular file"):
            load(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no such files")
def test_a_pipe_in_a_folder(tmp_path):
    """It is no better for the name of a text."""
    os.mkfifo(tmp_path / "pipe.txt")
    with pytest.raises(ValueError, match="no regular file"):
        load_text(str(tmp_path))


def test_a_file_larger_than_memory(tmp_path, monkeypatch):
    """A file may claim any size; this one has a hole and takes no room on the disk."""
    path = tmp_path / "hole.txt"
    path.touch()
    os.truncate(path, 2**34)
    monkeypatch.setattr(checks, "machine_memory", lambda: 2**30)
    for load in (load_text, load_bytes):
        with pytest.raises(ValueError, match=r"would take 80.0 GiB, but this machine has 1.0 GiB"):
            load(str(path))
    with pytest.raises(ValueError, match="expected at most 9"):
        os.truncate(path, 10)
        read_file(path, 9)


def test_a_byte_order_mark_is_no_character(tmp_path):
    """Windows editors write one; as bytes the file is what it is. Line breaks are all alike."""
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_bytes("\ufeffé\r\nx\ry".encode())
    assert load_text(str(tmp_path)) == "é\nx\ny\né\nx\ny"
    assert load_bytes(str(tmp_path / "a.txt")).startswith(b"\xef\xbb\xbf")


@pytest.mark.parametrize("name", ["", " ", "~nosuchuser/x"])
def test_names_of_nothing(name):
    """An empty name would be the current folder."""
    with pytest.raises(ValueError, match="data is "):
        load_text(name)
    with pytest.raises(ValueError, match="tokenizer is "):
        make_tokenizer(name, "text")
    with pytest.raises(ValueError, match="name is ''"):
        FeedbackLM.from_pretrained("")


@settings(max_examples=50)
@given(st.text(min_size=1), st.integers(1, 7), st.data())
def test_in_pieces_and_at_once(text, size, data):
    """The numbers of a text do not depend on the pieces in which it is read."""
    start, end = (data.draw(st.integers(0, len(text))) for _ in range(2))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("feedback.data.tokenizer.PIECE", size)
        assert "".join(in_pieces(text)) == text
        characters = Characters.of(text)
        assert characters.characters == "".join(sorted(set(text)))
        found = number(characters, text, start, end)
        assert found.tolist() == characters.encode(text[start:end]).tolist()
        content = text.encode("utf-8", "replace")
        assert number(Bytes(), content, start, end).tolist() == list(content[start:end])


def test_memory_of_a_large_text():
    """At its peak, numbering 20 MB takes a few times the text, not an object for each character."""
    code = (
        "import resource; from feedback.data.text import split\n"
        "from feedback.data.tokenizer import Characters\n"
        "text = 'the cat sat on the mat, naïve\\n' * 700_000\n"
        "split(text[:10**6], Characters.of(text[:10**6]))\n"
        "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before = peak(); split(text, Characters.of(text))\n"
        "print((peak() - before) * 1024 / len(text))"
    )
    pytest.importorskip("resource")
    if sys.platform == "darwin":
        pytest.skip("the peak is counted in another unit there")
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(said.stdout) < 10


@pytest.mark.skipif(sys.platform == "win32", reason="another way of sending a Ctrl-C")
def test_ctrl_c_while_a_text_is_numbered(tmp_path):
    """Between two pieces: the process that would number for ever ends."""
    code = (
        "from feedback.data.text import split; from feedback.data.tokenizer import Characters\n"
        "text = 'the cat sat' * 2_000_000\n"
        "print('begun', flush=True)\n"
        "while True: split(text, Characters.of(text))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=-1, stderr=-1) as process:
        assert process.stdout.readline() == b"begun\n"
        time.sleep(0.2)  # Either way it is in the middle of it, or soon will be.
        process.send_signal(signal.SIGINT)
        assert process.wait(60) != 0 and b"KeyboardInterrupt" in process.stderr.read()


def test_digest_and_parts_do_not_change():
    """A run that was begun before texts were read in pieces can still be resumed."""
    text = "the cät\n" * 50
    corpus = split(text, Characters.of(text))
    assert corpus.digest.startswith("5436bb592ebbd4c4")
    assert (corpus.train.dtype, corpus.val.dtype) == (torch.int32, torch.int64)


@pytest.mark.parametrize("terminal", [False, True])
def test_what_a_model_writes(monkeypatch, capsys, terminal):
    """A terminal is sent no control characters; a file gets the text as it is."""
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    show("a\x1b[2J\tb\n")
    assert capsys.readouterr().out == ("a\ufffd[2J\tb\n\n" if terminal else "a\x1b[2J\tb\n\n")


def test_an_error_message_is_printable(capsys):
    """A name may hold anything; what is printed of it cannot move the cursor."""
    assert main(["generate", "--run", "x\x1b]0;title\x07"]) == 2
    assert "\x1b" not in capsys.readouterr().err
