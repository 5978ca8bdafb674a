"""`python -m feedback experiment`: each of them at toy size, its record, and going on."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from feedback import FeedbackLM
from feedback.__main__ import main
from feedback.experiments import catalog
from feedback.experiments.catalog import EXPERIMENTS, find
from feedback.experiments.experiment import TEST_SEED, add_run, run_experiment, take_part
from feedback.experiments.programs import WholePrograms
from feedback.experiments.released import Recipe


def small(name: str):
    """The experiment with narrow contestants and short sequences to be examined on."""
    experiment = find(name)
    changes = {"lengths": experiment.lengths[:1]}
    if isinstance(experiment.exam, WholePrograms):
        # Nearly all of it is prints, so that each short program has some.
        short = WholePrograms(experiment.exam.n_variables, statements=20, prints=0.9)
        changes = {"lengths": (64,), "exam": short}
    if isinstance(experiment.course, Recipe):
        changes["course"] = replace(experiment.course, rows=8, programs=50)
    sizes = {**experiment.model, "d_model": 16, "n_heads": 2, "d_ff": 16}
    return replace(experiment, model=sizes, **changes)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_each_experiment(name, tmp_path, monkeypatch):
    """All contestants of each experiment take part, on a tiny budget, by the command."""
    experiment = small(name)
    monkeypatch.setattr(catalog, "find", lambda _: experiment)
    assert main(["experiment", name, "--tokens", "3000", "--out", str(tmp_path)]) == 0
    record = json.loads((tmp_path / f"{name}.json").read_text())
    runs = record["runs"]
    assert [run["contestant"] for run in runs] == list(experiment.contestants)
    assert len({run["tokens"] for run in runs}) == 1, "all have the same budget"
    for run in runs:
        who = run["contestant"]
        assert run["learning_rate"] == experiment.contestants[who].learning_rate
        assert run["command"] == f"python -m feedback experiment {name} --seed 1 --tokens 3000"
        assert run["machine"]["torch"] == torch.__version__ and run["seed"] == 1
        assert list(run["test"]) == [str(T) for T in experiment.lengths]
        assert all(0 <= share <= 1 for marks in run["test"].values() for share in marks.values())
        folder = tmp_path / name / f"{who}_1"
        kept = load_file(folder / "model.safetensors")
        assert sum(t.numel() for t in kept.values()) == run["parameters"]


def test_an_experiment_goes_on(tmp_path, capsys):
    """What the record has is kept; another seed and the others are added; weights load again."""
    base = ["experiment", "a5", "--tokens", "2000", "--out", str(tmp_path)]
    small_ones = ["--only", "gru", "feedback"]
    assert main([*base, "--only", "gru"]) == 0
    first = json.loads((tmp_path / "a5.json").read_text())["runs"]
    assert main([*base, *small_ones]) == 0
    assert "gru, seed 1: in " in capsys.readouterr().err
    assert main([*base, *small_ones, "--seed", "2"]) == 0
    runs = json.loads((tmp_path / "a5.json").read_text())["runs"]
    assert runs[0] == first[0]
    found = [(run["contestant"], run["seed"]) for run in runs]
    assert sorted(found) == [("feedback", 1), ("feedback", 2), ("gru", 1), ("gru", 2)]
    model = FeedbackLM.from_pretrained(tmp_path / "a5" / "feedback_2")
    assert model.config.mem_len == 1


def test_the_same_seed_gives_the_same_record(tmp_path):
    """Marks and curve are decided by the seed."""
    entries = []
    for seed in (1, 1, 2):
        tiny = replace(small("a5"), course=replace(find("a5").course, tokens=8000))
        _, entry = take_part(tiny, "gru", seed, show=lambda line: None)
        entries.append([entry["test"], [row["loss"] for row in entry["curve"]]])
    assert entries[0] == entries[1] != entries[2]


def test_the_examination_has_other_sequences():
    """PyTorch keeps 32 bits of a seed, so not every other number is another seed."""

    def drawn(seed):
        return find("a5").task.draw(4, 32, torch.Generator().manual_seed(seed)).tokens

    for seed in (1, 2, 3):
        assert not drawn(seed).equal(drawn(seed + TEST_SEED))
        assert drawn(seed).equal(drawn(seed + 2**40)), "why it is no larger power of two"


def test_another_budget_is_another_run(tmp_path, monkeypatch):
    """After a trial the whole course is still to be taken; records and weights of both are kept."""
    experiment = small("a5")
    monkeypatch.setattr(catalog, "find", lambda _: experiment)
    base = ["experiment", "a5", "--only", "gru", "--out", str(tmp_path), "--tokens"]
    for rest in (["2000"], ["4000"], ["2000"], ["2000", "--learning-rate", "0.1"]):
        assert main([*base, *rest]) == 0
    runs = json.loads((tmp_path / "a5.json").read_text())["runs"]
    rate = experiment.contestants["gru"].learning_rate
    assert [(run["course"]["tokens"], run["learning_rate"]) for run in runs] == [
        (2000, rate),
        (4000, rate),
        (2000, 0.1),
    ]
    folders = [tmp_path / "a5" / name for name in ("gru_1", "gru_1_2", "gru_1_3")]
    one, two, three = (load_file(folder / "model.safetensors")["head.bias"] for folder in folders)
    assert not (one.equal(two) or one.equal(three) or two.equal(three))


def test_list(capsys):
    """Without a name: all of them, each with an example."""
    assert main(["experiment"]) == 0
    said = capsys.readouterr().out
    for name in EXPERIMENTS:
        assert f"{name}\n\n    " in said


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["a6"], "experiment is 'a6', expected one of a5, a5_at_once"),
        (["a5", "--only", "rnn"], "contestant is 'rnn', expected one of feedback"),
        (["a5", "--tokens", "0"], "tokens is 0"),
    ],
)
def test_mistakes(args, words, tmp_path, capsys):
    """One line, exit code 2, and nothing written."""
    out = tmp_path / "records"
    assert main(["experiment", *args, "--out", str(out)]) == 2
    assert words in capsys.readouterr().err and not out.exists()


def test_a_file_that_is_something_else_is_kept(tmp_path, capsys):
    """A file in the place of the record is not overwritten."""
    for text in ("not JSON", '{"experiment": "s5", "runs": []}', '{"experiment": "a5"}'):
        (tmp_path / "a5.json").write_text(text)
        with pytest.raises(ValueError, match="is not the record of the experiment 'a5'"):
            run_experiment("a5", find("a5"), 1, tmp_path, "command")
        assert (tmp_path / "a5.json").read_text() == text


def test_several_processes_share_the_contestants_out(tmp_path):
    """Under torchrun each contestant is trained once, by one of them, as it is without."""
    command = ["experiment", "walk", "--tokens", "2000", "--out"]
    root = Path(__file__).parents[2]
    here = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    start = ["-m", "torch.distributed.run", "--standalone", "--local-addr", "127.0.0.1"]
    start += ["--nproc-per-node", "2", "-m", "--", "feedback"]
    line = [sys.executable, *start, *command, str(tmp_path / "two")]
    result = subprocess.run(line, env=here, capture_output=True, text=True, timeout=250)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [str(tmp_path / "two" / "walk.json")]
    assert main([*command, str(tmp_path / "one")]) == 0
    one, two = (
        {run["contestant"]: run for run in json.loads(path.read_text())["runs"]}
        for path in (tmp_path / "one" / "walk.json", tmp_path / "two" / "walk.json")
    )
    assert list(one) == list(find("walk").contestants) and sorted(one) == sorted(two)
    for who, run in one.items():
        assert {k: two[who][k] for k in ("parameters", "tokens", "command")} == {
            k: run[k] for k in ("parameters", "tokens")
        } | {"command": run["command"]}
        assert two[who]["curve"][0]["loss"] == pytest.approx(run["curve"][0]["loss"], rel=1e-3)


def test_no_run_is_lost(tmp_path):
    """Many who write at the same time: each reads what the one before has written."""
    path = tmp_path / "a5.json"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_run(path, "a5", {"seed": n}), range(40)))
    runs = json.loads(path.read_text())["runs"]
    assert sorted(run["seed"] for run in runs) == list(range(40))
