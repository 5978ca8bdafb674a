"""The released recipe: the corpus in blocks, the steps, and a run that was interrupted."""

import json
import shutil
from dataclasses import asdict, replace
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.data.text import IGNORE
from feedback.experiments import experiment, released
from feedback.experiments.catalog import find
from feedback.experiments.experiment import run_experiment
from feedback.experiments.programs import Programs, WholePrograms
from feedback.experiments.released import Corpus, Reading, Recipe, follow
from feedback.training.checkpoint import Checkpoints
from feedback.training.evaluate import loss_of

TASK = Programs(3, statements=20, prints=0.5)
STEPS = 250
# A pass has 6 blocks, and a stretch two or three steps.
SMALL = Recipe(
    tokens=STEPS * 4 * 16, rows=4, seq_len=16, programs=6, learning_rate=3e-3, warmup_steps=3
)


def model(build=FeedbackLM, **changes) -> nn.Module:
    """A small model, always the same."""
    torch.manual_seed(1)
    sizes = {"d_model": 16, "n_layers": 1, "n_heads": 2, "d_ff": 16, "mem_len": 20, **changes}
    return build(ModelConfig.fair(vocab_size=24, **sizes))


def weights(module: nn.Module) -> dict[str, torch.Tensor]:
    """A copy of all parameters."""
    return {name: p.detach().clone() for name, p in module.named_parameters()}


def test_rows_are_pieces_of_the_corpus():
    """Side by side, the blocks of a pass are the rows, from a place that differs between passes."""
    corpus = Corpus(TASK, SMALL, seed=7)
    tokens, labels = TASK.corpus(SMALL.programs, torch.Generator().manual_seed(7))
    n = len(tokens) // 4
    assert corpus.blocks == (n - 15) // 16 == 6
    starts = []
    for number in range(20):
        batches = [corpus.block(step) for step in range(number * 6, number * 6 + 6)]
        assert [batch.new for batch in batches] == [True] + 5 * [False]
        read = [torch.cat([batch[part] for batch in batches], dim=1) for part in (0, 1)]
        assert all(part.shape == (4, 96) for part in read)
        fits = [
            at
            for at in range(16)
            if all(
                part[r].equal(whole[r * n + at : r * n + at + 96])
                for part, whole in zip(read, (tokens, labels), strict=True)
                for r in range(4)
            )
        ]
        assert len(fits) == 1
        starts += fits
    assert len(set(starts)) > 5 and max(starts) <= 15


@pytest.mark.parametrize("build", [FeedbackLM, TransformerLM])
def test_the_steps_are_those_of_a_plain_loop(build):
    """The recipe written out once more: Adam, warm-up, clipping, the memory carried."""
    ours, plain = (model(build).double() for _ in range(2))
    recipe = replace(SMALL, tokens=20 * 4 * 16)
    curve = follow(ours, TASK, recipe, seed=7)
    corpus = Corpus(TASK, recipe, seed=7)
    adam = torch.optim.Adam(plain.parameters(), betas=(0.9, 0.999), eps=1e-8)
    losses, memory = [], None
    for step in range(20):
        for group in adam.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 3)
        tokens, labels, _ = corpus.block(step)
        memory = None if step % 6 == 0 else memory.detach()
        logits, memory = plain(tokens, memory)
        loss = loss_of(logits, labels)
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(plain.parameters(), 0.1)
        adam.step()
        losses.append(loss.item())
    for name, p in plain.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name), p, rtol=1e-9, atol=1e-11)
    assert [row["loss"] for row in curve] == pytest.approx(losses, rel=1e-9)
    assert [row["step"] for row in curve] == list(range(1, 21))
    assert curve[-1]["tokens"] == recipe.tokens and curve[-1]["seq_len"] == 16


def test_the_curve_has_a_hundred_rows():
    """Each is the mean of its stretch: together they are the mean of all steps."""
    seen = []

    class Watched(Reading):
        def learn(self, batch):
            seen.append(super().learn(batch))
            return seen[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(released, "Reading", Watched)
        curve = follow(model(), TASK, SMALL, seed=7)
    assert len(curve) == 100 and len(seen) == STEPS
    ends = [0, *(row["step"] for row in curve)]
    assert {b - a for a, b in pairwise(ends)} == {2, 3} and ends[-1] == STEPS
    for row, (a, b) in zip(curve, pairwise(ends), strict=True):
        for name, column in zip(("loss", "accuracy"), zip(*seen[a:b], strict=True), strict=True):
            assert row[name] == pytest.approx(sum(column) / (b - a))


class Cut(Exception):
    """What interrupts a run."""


def cut_at(patch, step: int) -> None:
    """From now on a run is interrupted in the step after this one."""

    class Short(Reading):
        def learn(self, batch):
            if self.step == step:
                raise Cut
            return super().learn(batch)

    patch.setattr(released, "Reading", Short)


@pytest.mark.parametrize("build", [FeedbackLM, TransformerLM])
@pytest.mark.parametrize("steps", [(4,), (36,), (37, 200)])
def test_an_interrupted_run_ends_like_another(tmp_path, monkeypatch, build, steps):
    """With dropout, between passes or within one, and twice: the same weights and curve."""
    whole = model(build, dropout=0.3)
    expected = follow(whole, TASK, SMALL, seed=7)
    for step in steps:
        with monkeypatch.context() as patch:
            cut_at(patch, step)
            with pytest.raises(Cut):
                follow(model(build, dropout=0.3), TASK, SMALL, seed=7, folder=tmp_path)
        assert step - 3 < Checkpoints(tmp_path).steps()[0] <= step
    again = model(build, dropout=0.3)
    shown = []
    curve = follow(again, TASK, SMALL, 7, show=shown.append, folder=tmp_path)
    assert shown[0]["step"] > steps[-1] - 3 and shown[-1] == curve[-1]
    for row, other in zip(curve, expected, strict=True):
        assert {**row, "seconds": 0} == {**other, "seconds": 0}
    assert all(w.equal(weights(whole)[name]) for name, w in weights(again).items())


def test_a_damaged_checkpoint_is_passed_over(tmp_path, monkeypatch, capsys):
    """If the newest is damaged the run goes on from that before it, and ends the same."""
    whole, again = model(), model()
    follow(whole, TASK, SMALL, seed=7)
    with monkeypatch.context() as patch:
        cut_at(patch, 90)
        with pytest.raises(Cut):
            follow(model(), TASK, SMALL, seed=7, folder=tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "both")
    for folder, damaged in ((tmp_path / "one", 1), (tmp_path / "both", 2)):
        kept = Checkpoints(folder)
        for step in kept.steps()[:damaged]:
            data = bytearray(kept.path(step).read_bytes())
            data[-1] ^= 1
            kept.path(step).write_bytes(data)
    follow(again, TASK, SMALL, seed=7, folder=tmp_path / "one")
    assert "is damaged" in capsys.readouterr().err
    assert all(w.equal(weights(whole)[name]) for name, w in weights(again).items())
    with pytest.raises(ValueError, match="every checkpoint is damaged; remove the folder"):
        follow(model(), TASK, SMALL, seed=7, folder=tmp_path / "both")


def contest():
    """The released contest, small."""
    sizes = {"d_model": 16, "n_heads": 2, "d_ff": 16, "n_layers": 1}
    found = find("programs_3_released")
    changes = {"course": SMALL, "task": TASK, "device": "cpu", "model": {**found.model, **sizes}}
    return replace(found, lengths=(64,), exam=WholePrograms(3, 20, prints=0.9), **changes)


def test_the_command_goes_on_where_it_was(tmp_path, monkeypatch):
    """Interrupted in training, and again before the weights were saved: nothing is lost."""

    def take(folder, lines):
        run_experiment("programs_3_released", contest(), 1, folder, "a command", lines.append)
        runs = json.loads((folder / "programs_3_released.json").read_text())["runs"]
        for run in runs:
            for row in [run, *run["curve"]]:
                row.pop("seconds")
            run.pop("machine")
        return runs

    expected = take(tmp_path / "whole", [])
    broken, lines = tmp_path / "broken", []
    with monkeypatch.context() as patch:
        patch.setattr(experiment, "save_weights", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            take(broken, lines)
    with monkeypatch.context() as patch:
        cut_at(patch, 125)
        with pytest.raises(Cut):
            take(broken, lines)
    # What the first had learnt was there, and half of the second is there now.
    assert [line.split(",")[0] for line in lines] == ["feedback"] * 100 + ["twice_as_deep"] * 50
    assert take(broken, lines) == expected
    assert len(lines) == 201, "one is in the record, and the other has half of the way to go"
    names = {path.name for path in (broken / "programs_3_released").iterdir()}
    assert names == {"feedback_1", "twice_as_deep_1"}
    for name in names:
        files = (tmp_path / at / "programs_3_released" / name for at in ("whole", "broken"))
        first, second = (load_file(folder / "model.safetensors") for folder in files)
        assert first.keys() == second.keys()
        assert all(w.equal(second[key]) for key, w in first.items())


def test_another_run_is_not_continued(tmp_path, monkeypatch):
    """Another seed, rate, model or label: nothing is overwritten; the message says what to do."""
    cut_at(monkeypatch, 20)
    with pytest.raises(Cut):
        follow(model(), TASK, SMALL, seed=7, folder=tmp_path)
    monkeypatch.undo()
    kept = sorted(path.name for path in tmp_path.iterdir())
    for build, task, recipe, seed in (
        (model(), TASK, SMALL, 8),
        (model(), TASK, replace(SMALL, learning_rate=1e-3), 7),
        (model(dropout=0.1), TASK, SMALL, 7),
        (model(), Programs(3, statements=20, prints=0.5, dense=True), SMALL, 7),
    ):
        with pytest.raises(ValueError, match="with other settings or of another version; move it"):
            follow(build, task, recipe, seed, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept and kept


def test_the_settings_are_the_released_ones():
    """Sizes, budget and rivals as published; three million parameters, 1.64 billion tokens."""
    for n in (3, 5):
        contest = find(f"programs_{n}_released")
        task = contest.task
        assert task.n_variables == n and task.statements == 100 and not task.dense
        config = contest.config()
        assert (config.n_layers, config.d_model, config.d_ff, config.n_heads) == (4, 256, 1024, 4)
        assert (config.mem_len, config.dropout, config.d_k) == (100, 0.2, None)
        assert not config.share_kv and config.empty_memory == "zeros"
        assert asdict(contest.course) == {
            "tokens": 50_000 * 512 * 64,
            "rows": 512,
            "seq_len": 64,
            "programs": 10_000,
            "learning_rate": 1e-4,
            "warmup_steps": 1000,
            "grad_clip": 0.1,
        }
        assert contest.course.steps == 50_000 and round(contest.course.tokens / 1e9, 2) == 1.64
        # Each word is read some 380 times; a program has 431.6.
        assert round(contest.course.tokens / (10_000 * 431.6), -1) == 380
        assert {one.learning_rate for one in contest.contestants.values()} == {1e-4}
        assert contest.device == "auto"
        sizes = {
            who: sum(p.numel() for p in contestant.build(config).parameters())
            for who, contestant in contest.contestants.items()
        }
        assert 3.1e6 < sizes["feedback"] < 3.3e6 and sizes["twice_as_deep"] > 6e6
        assert contest.contestants["twice_as_deep"].build(config).config.n_layers == 8


def test_all_blocks_have_answers():
    """As many as 25.5 prints in 431.6 words let one expect."""
    corpus = Corpus(Programs(3), replace(Recipe(), programs=2000, rows=128), seed=1)
    asked = [(corpus.block(step).targets != IGNORE).sum().item() for step in range(corpus.blocks)]
    assert min(asked) > 300 and max(asked) < 700
    assert sum(asked) / len(asked) == pytest.approx(128 * 64 * 25.5 / 431.6, rel=0.02)


def test_a_block_without_answers():
    """Two rows of eight words can be without a print; the message says what to do."""
    tiny = replace(SMALL, rows=1, seq_len=4)
    with pytest.raises(ValueError, match=r"step \d+ reads no label; use more rows, or a larger"):
        follow(model(), TASK, tiny, seed=7)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"rows": 0}, "rows is 0, expected a whole number of at least 1"),
        ({"rows": 40}, r"rows is 40, expected at most \d+ for \d+ words in blocks of 16; or take"),
        ({"grad_clip": -1.0}, "grad_clip is -1.0, expected a number above 0"),
        ({"warmup_steps": -1}, "warmup_steps is -1, expected a number of at least 0"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', expected a finite number"),
    ],
)
def test_settings_that_make_no_sense(change, words):
    """The value is named, and what was expected."""
    with pytest.raises(ValueError, match=words):
        Corpus(TASK, replace(SMALL, **change), seed=7)
