"""The command line: complete help, and one line for every mistake."""

import ast
import dataclasses
import hashlib
import inspect
import json
import subprocess
import sys

import pytest
import torch

from feedback import FeedbackLM, ModelConfig, TrainConfig
from feedback.__main__ import main, parse
from feedback.commands import PRESETS
from feedback.data import enwik8

TINY = (
    "--batch-size 3 --seq-len 8 --max-steps 4 --d-model 16 --n-layers 2 --n-heads 2 --d-ff 16 "
    "--mem-len 8 --warmup-steps 1 --eval-steps 2 --checkpoint-steps 2 --device cpu"
).split()


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A text file in an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.txt").write_text("the cat sat on the mat\n" * 60)
    return ["--data", "text.txt", "--run", "r"]


def test_train_generate_plot(text, capsys):
    """The three commands, one after the other, as the README has them."""
    assert main(["train", *text, *TINY]) == 0
    said = capsys.readouterr().out
    assert "validation loss" in said and "r/loss.png" in said
    assert "python -m feedback generate --run r" in said
    assert main(["generate", "--run", "r", "--prompt", "the c", "--max-new-tokens", "20"]) == 0
    assert capsys.readouterr().out.startswith("the c")
    assert main(["plot", "r", "--x", "seconds", "--out", "x.png"]) == 0
    assert capsys.readouterr().out == "x.png\n"


def test_generate_options(text, capsys):
    """The same seed writes the same text; samples are apart; a stop character stops."""
    main(["train", *text, *TINY])
    capsys.readouterr()
    options = ["generate", "--run", "r", "--prompt", "t", "--max-new-tokens", "30"]
    outputs = []
    for seed in ("1", "1", "2"):
        assert main([*options, "--seed", seed]) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] != outputs[2]
    main([*options, "--samples", "3", "--seed", "1"])
    assert capsys.readouterr().out.count("---") == 2
    main([*options, "--stop", "a", "--seed", "1", "--max-new-tokens", "500"])
    assert capsys.readouterr().out.strip().count("a") == 1


def texts(cls) -> dict[str, str]:
    """The text below each field of a dataclass; fails where there is none."""
    body = ast.parse(inspect.getsource(cls)).body[0].body
    found = {}
    for field, below in zip(body, body[1:], strict=False):
        if isinstance(field, ast.AnnAssign):
            found[field.target.id] = " ".join(ast.literal_eval(below.value).split())
    assert set(found) == {field.name for field in dataclasses.fields(cls)}
    return found


def test_help_has_every_option(capsys):
    """Each field of the dataclasses is an option with its text, except the one the data decides."""
    with pytest.raises(SystemExit):
        parse(["train", "--help"])
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for cls in (ModelConfig, TrainConfig):
        for field in dataclasses.fields(cls):
            option = f"--{field.name.replace('_', '-')}"
            assert (option in said) == (field.name != "vocab_size"), option
        for name, words in texts(cls).items():
            assert name == "vocab_size" or words in said, name


def test_preset_fair():
    """`--preset fair` is both choices of the authors' code."""
    command = parse(["train", "--preset", "fair", "--d-model", "64"])
    assert command.model_config() == ModelConfig.fair(d_model=64)


def test_an_option_wins_over_the_preset():
    """Wherever it stands, and where it only makes sense with the preset's other values."""
    command = parse(["train", "--empty-memory", "skip", "--preset=fair"])
    assert command.model_config() == ModelConfig.fair(empty_memory="skip")
    options = "--accumulate 64 --d-model 30 --no-adaptive-span --span-loss 0 --preset enwik8"
    command = parse(["train", *options.split()])
    changes = dict(accumulate=64, span_loss=0.0)
    assert command.training == dataclasses.replace(PRESETS["enwik8"].training, **changes)
    assert (command.model.d_model, command.model.adaptive_span) == (30, False)
    with pytest.raises(ValueError, match="'tiny'"):
        parse(["train", "--preset", "tiny"])


def test_preset_enwik8():
    """The authors' settings, and their 77 million parameters, apart from the positions."""
    command = parse(["train", "--preset", "enwik8"])
    c, t = command.model_config(), command.training
    assert (c.n_layers, c.d_model, c.d_ff, c.n_heads, c.head_dim) == (12, 512, 4096, 8, 128)
    assert (c.mem_len, c.dropout, c.activation, c.share_kv) == (8192, 0.5, "relu", False)
    assert (c.empty_memory, c.norm_memory) == ("zeros", True)
    assert (c.adaptive_span, c.span_ramp, t.span_loss) == (True, 32, 5e-7)
    assert (t.data, t.tokenizer, t.segments, t.seq_len) == ("enwik8", "bytes", "carried", 128)
    assert (t.batch_size, t.max_steps, t.warmup_steps) == (1024, 100_000, 8000)
    assert (t.learning_rate, t.weight_decay, t.grad_clip) == (1.5e-3, 0.0, 0.1)
    with torch.device("meta"):
        model = FeedbackLM(dataclasses.replace(c, vocab_size=256))
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    positions = sum(size for name, size in sizes.items() if ".pos_" in name)
    shared = c.mem_len * c.head_dim
    assert round((sum(sizes.values()) - positions + shared) / 1e6) == 77


def test_preset_enwik8_trains(text, tmp_path, monkeypatch, capsys):
    """At toy size, on a toy text that is in the cache; what is written is read as bytes."""
    toy = (tmp_path / "text.txt").read_bytes()
    monkeypatch.setenv("FEEDBACK_CACHE", str(tmp_path))
    monkeypatch.setattr(enwik8, "SHA256", hashlib.sha256(toy).hexdigest())
    (tmp_path / "enwik8").write_bytes(toy)
    assert main(["train", "--preset", "enwik8", *TINY, "--d-k", "8", "--run", "r"]) == 0
    assert "validation loss" in capsys.readouterr().out
    stored = json.loads((tmp_path / "r" / "config.json").read_text())
    assert stored["adaptive_span"] and stored["train"]["span_loss"] == 5e-7
    assert main(["train", "--run", "r", "--resume", "--max-steps", "6"]) == 0
    assert main(["generate", "--run", "r", "--prompt", "the", "--max-new-tokens", "9"]) == 0


def test_resume_takes_the_settings_of_the_run(text, capsys):
    """No option has to be repeated; one that contradicts is refused; max_steps may grow."""
    main(["train", *text, *TINY])
    capsys.readouterr()
    assert main(["train", "--run", "r", "--resume", "--max-steps", "6"]) == 0
    assert main(["train", "--run", "r", "--resume", "--d-model", "32"]) == 2
    assert "begun with d_model = 16, but now it is 32" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("train --no-such-option 3", "Unrecognized options: --no-such-option"),
        ("train --out 3", "Unrecognized or misplaced options: --out"),
        ("train --d-model wide", "--d-model"),
        ("train --activation tanh", "'tanh'"),
        ("sing", "sing"),
        ("", "train, generate"),
        ("train --d-model 30", "d_model is 30, expected a multiple of n_heads = 4"),
        ("train --dropout 2", "dropout is 2.0"),
        ("train --data missing.txt", "data is 'missing.txt'"),
        ("train --data latin.txt", "latin.txt is not UTF-8: byte 1"),
        ("train --data empty.txt", "empty.txt is empty"),
        ("train --data text.txt --seq-len 9999", "expected at least 10000 and 2"),
        ("train --data text.txt --batch-size 900 --segments carried", "use more text"),
        ("train --data text.txt --device gpu", "device is 'gpu'"),
        ("train --run missing --resume", "missing holds no run"),
        ("train --run text.txt --data text.txt", "text.txt is a file, expected a folder"),
        ("train --data text.txt --learning-rate nan", "learning_rate is nan"),
        ("train --data text.txt --start-seq-len 5", "start_seq_len is 5"),
        ("experiment a5 --only", "--only is empty, expected a contestant"),
        ("experiment a5 --only --seed 2", "--only is empty, expected a contestant"),
        ("generate --run missing", "missing holds no run"),
        ("plot missing", "missing holds no metrics.jsonl"),
    ],
)
def test_mistakes(text, capsys, tmp_path, arguments, words):
    """Exit code 2, one line on standard error that says what is wrong, and nothing written."""
    (tmp_path / "latin.txt").write_bytes(b"a\xe9")
    (tmp_path / "empty.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    assert main(arguments.split()) == 2
    err = capsys.readouterr().err
    assert err.startswith("feedback: ") and err.count("\n") == 1
    assert words in err
    assert sorted(tmp_path.rglob("*")) == before


def test_generate_works_at_once(tmp_path, monkeypatch, capsys):
    """Without any run, the model in the package writes, and standard error says so."""
    monkeypatch.chdir(tmp_path)
    options = ["generate", "--prompt", "ROMEO:", "--max-new-tokens", "100", "--seed", "1"]
    assert main(options) == 0
    out, err = capsys.readouterr()
    assert out.startswith("ROMEO:") and len(out) == 107
    assert err == "runs/tiny_shakespeare holds no run; using the package's tiny_shakespeare\n"
    assert main([*options, "--run", "tiny_shakespeare"]) == 0
    assert capsys.readouterr() == (out, "")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--prompt", "QUIZ"], "the model has no token for 'I', 'Q', 'U', 'Z'; expected only"),
        (["--prompt", ""], "the prompt is empty"),
        (["--temperature", "-1"], "temperature is -1.0"),
        (["--top-p", "0"], "top_p is 0.0"),
        (["--samples", "0"], "samples is 0"),
        (["--stop", "tt"], "stop is 'tt', expected text that is a single token"),
    ],
)
def test_mistakes_of_generate(text, capsys, arguments, words):
    """The same for wrong options, with a model that exists."""
    main(["train", *text, *TINY])
    capsys.readouterr()
    assert main(["generate", "--run", "r", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert words in err


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"characters": 5}, "r has no vocabulary"),
        ({"train": [1]}, "config.json is damaged: expected a JSON object for the key 'train'"),
        (
            {"d_model": "16"},
            "config.json does not describe a valid model: d_model is '16', expected a whole",
        ),
        (
            {"dropout": None},
            "config.json does not describe a valid model: dropout is None, expected a finite",
        ),
        (
            {"train": {"seq_len": 8, "learning_rate": "x"}},
            "does not describe a valid run: learning_rate is 'x'",
        ),
        (
            {"train": {"run": 5}},
            "config.json does not describe a valid run: run is 5, expected a path",
        ),
        ({"architecture": "Other"}, "r holds a Other, expected a FeedbackLM"),
    ],
)
def test_a_damaged_run(text, capsys, tmp_path, damage, words):
    """A `config.json` that says something impossible is a mistake too, not a traceback."""
    main(["train", *text, *TINY, "--max-steps", "1"])
    path = tmp_path / "r" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **damage}))
    capsys.readouterr()
    assert main(["generate", "--run", "r", "--prompt", "t"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1
    assert words in err


def test_resume_and_overwrite(text, capsys):
    """The two contradict each other, and a run that is there stays."""
    main(["train", *text, *TINY, "--max-steps", "1"])
    capsys.readouterr()
    assert main(["train", "--run", "r", "--resume", "--overwrite"]) == 2
    assert "choose --resume or --overwrite, not both" in capsys.readouterr().err
    assert main(["plot", "r"]) == 0


def test_a_real_process(text):
    """`python -m feedback` ends with the exit code, one line, and no traceback."""
    result = subprocess.run(
        [sys.executable, "-m", "feedback", "train", "--d-model", "30"],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1 and "Traceback" not in result.stderr


def test_a_second_run_is_refused(text, capsys):
    """A folder that holds a run is not written over, and the line says what can be done."""
    assert main(["train", *text, *TINY]) == 0
    capsys.readouterr()
    assert main(["train", *text, *TINY]) == 2
    assert "r already holds a run; continue it with --resume" in capsys.readouterr().err
