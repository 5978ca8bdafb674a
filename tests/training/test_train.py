"""A run can be trusted: repeated, stopped, resumed, and never half-written."""

import dataclasses
import json
import math
import os
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from conftest import require_or_skip
from runs import SMALL, assert_same_run, command, metrics, quiet, settings

from feedback import FeedbackLM, RotaryLM, TrainConfig, TransformerLM
from feedback.__main__ import main
from feedback.data.tokenizer import Characters
from feedback.support.interrupt import Interrupt
from feedback.training.evaluate import evaluate
from feedback.training.runs import METRIC_KEYS, Run
from feedback.training.schedule import learning_rate, make_optimizer, sequence_lengths
from feedback.training.trainer import Trainer


@pytest.mark.parametrize("segments", ["random", "carried"])
def test_same_seed_same_run(tmp_path, segments):
    """The same seed gives the same losses and weights to the bit, dropout included."""
    config = settings(tmp_path, segments=segments)
    first = quiet(SMALL, config)
    second = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "again"))
    assert_same_run(first, second)
    other = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "other", seed=2))
    assert metrics(other.config) != metrics(config)


@pytest.mark.parametrize("segments", ["random", "carried"])
@pytest.mark.parametrize("implementation", ["append", "sequence", "auto"])
def test_resumed_run_equals_the_uninterrupted_one(tmp_path, segments, implementation):
    """Killed after step 3, with a half-written line, and resumed from step 2: no bit differs."""
    config = settings(tmp_path, segments=segments, implementation=implementation)
    whole = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "whole"))

    class Killed(Exception):
        pass

    original = Trainer.train_step

    def step_until_killed(self):
        if self.step == 3:
            raise Killed
        return original(self)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Trainer, "train_step", step_until_killed)
        quiet(SMALL, config)
    with (config.run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "tok')
    assert_same_run(quiet(SMALL, config, resume=True), whole)


def test_the_run_folder(tmp_path):
    """Exactly the files of the design, each with the promised contents."""
    config = settings(tmp_path)
    trainer = quiet(SMALL, config)
    files = {str(p.relative_to(config.run)) for p in config.run.rglob("*") if p.is_file()}
    assert files == {
        "config.json", "metrics.jsonl", "model.safetensors", "loss.png", "sample.txt", ".lock",
        "checkpoint/step_00000004.safetensors", "checkpoint/step_00000006.safetensors",
    }  # fmt: skip
    rows = Run(config.run).metrics()
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert all(tuple(row) == METRIC_KEYS for row in rows)
    assert [row["tokens"] for row in rows] == [24 * i for i in range(1, 7)]
    assert [row["val_loss"] is not None for row in rows] == [False, True] * 3
    assert all(a["seconds"] < b["seconds"] for a, b in zip(rows, rows[1:], strict=False))
    stored = json.loads((config.run / "config.json").read_text())
    assert stored["characters"] == "\nabcde"
    assert stored["train"]["batch_size"] == 3
    loaded = FeedbackLM.from_pretrained(config.run)
    assert rows[-1]["val_loss"] == evaluate(loaded, trainer.corpus.val, 8)
    assert len((config.run / "sample.txt").read_text()) == 400


@pytest.mark.parametrize("seed", [0, 1_792_000_000_000_000_000, 10**21])
def test_any_seed(tmp_path, seed):
    """A seed may be of any size, such as the time in nanoseconds."""
    config = settings(tmp_path, seed=seed, max_steps=1)
    assert math.isfinite(quiet(SMALL, config).val_loss)


def test_carried_memory_reaches_the_next_segment(tmp_path):
    """With nothing learnt, the losses of carried segments are those of one pass over the rows."""
    config = settings(
        tmp_path, segments="carried", learning_rate=0.0, max_steps=4, eval_steps=9, batch_size=2
    )
    trainer = quiet(dataclasses.replace(SMALL, dropout=0.0), config)
    tokens, B, N = trainer.corpus.train.long(), 2, 4 * 8
    rows = (len(tokens) - 1) // B
    places = torch.arange(B)[:, None] * rows + torch.arange(N + 1)
    with torch.no_grad():
        logits, _ = trainer.model.eval()(tokens[places[:, :-1]])
    losses = F.cross_entropy(logits.transpose(1, 2), tokens[places[:, 1:]], reduction="none")
    expected = losses.view(B, 4, 8).mean((0, 2)).tolist()
    found = [row["train_loss"] for row in metrics(config)]
    assert found == pytest.approx(expected, abs=1e-5)
    with torch.no_grad():
        forgetful = [
            F.cross_entropy(trainer.model(part[:, :-1])[0].transpose(1, 2), part[:, 1:]).item()
            for part in (tokens[places[:, at : at + 9]] for at in range(0, N, 8))
        ]
    assert found[0] == pytest.approx(forgetful[0], abs=1e-5)
    assert found[1:] != pytest.approx(forgetful[1:], abs=1e-4)


def test_gradients_are_clipped(tmp_path):
    """The norm of the gradient is clipped to `grad_clip`; with 0 it is unchanged."""
    norms = {}
    for clip in (0.0, 0.01):
        trainer = Trainer(SMALL, settings(tmp_path, grad_clip=clip))
        tokens, targets, _ = trainer.batch_at(trainer.step)
        _, before, _ = trainer.gradients(tokens, targets, None)
        after = torch.cat([p.grad.flatten() for p in trainer.model.parameters()]).norm().item()
        norms[clip] = before.item(), after
    assert norms[0.0][0] == norms[0.01][0] > 0.01
    assert norms[0.0][1] == pytest.approx(norms[0.0][0], rel=1e-5)
    assert norms[0.01][1] == pytest.approx(0.01, rel=1e-3)


SPANS = dataclasses.replace(SMALL, adaptive_span=True, span_ramp=3)


def test_spans_are_paid_for(tmp_path):
    """
    `span_loss` adds c * mem_len / H to the gradient of each span, once, in however many parts the
    batch is read; the loss that is reported is that of the text alone.
    """
    model = dataclasses.replace(SPANS, dropout=0.0)
    results = {}
    for cost in (0.0, 0.5):
        config = settings(tmp_path, span_loss=cost, accumulate=3, grad_clip=0.0)
        trainer = Trainer(model, config)
        tokens, targets, _ = trainer.batch_at(0)
        loss, _, _ = trainer.gradients(tokens, targets, None)
        results[cost] = loss, {n: p.grad for n, p in trainer.model.named_parameters()}
    (loss, free), (same, paid) = results.values()
    assert torch.equal(loss, same)
    for name, gradient in paid.items():
        expected = free[name] + (0.5 * 8 / 2 if name.endswith(".span") else 0)
        torch.testing.assert_close(gradient, expected)
    assert sum(name.endswith(".span") for name in paid) == 2


@pytest.mark.parametrize(("gradient", "end"), [(1.0, 0.0), (-1.0, 1.0)])
def test_spans_stay_fractions(tmp_path, gradient, end):
    """A step that would take a span out of its range takes it to the end of it."""
    trainer = Trainer(SPANS, settings(tmp_path, learning_rate=3.0))
    assert len(trainer.spans) == 2
    for span in trainer.spans:
        span.data.fill_(0.5)
        span.grad = torch.full_like(span, gradient)
    trainer.step_optimizer()
    assert all((span == end).all() for span in trainer.spans)
    # Momentum would take them further.
    trainer.train_step()
    assert all(((span >= 0) & (span <= 1)).all() for span in trainer.spans)


def test_a_run_with_spans_resumes(tmp_path):
    """As any other: bit for bit."""
    config = settings(tmp_path, segments="carried", span_loss=1e-9)
    whole = quiet(SPANS, dataclasses.replace(config, run=tmp_path / "whole"))
    quiet(SPANS, dataclasses.replace(config, max_steps=6, until_loss=1e9))
    assert len(metrics(config)) == 2
    again = dataclasses.replace(config, until_loss=None)
    assert_same_run(quiet(SPANS, again, resume=True), whole)
    assert any((span > 0).any() for span in whole.spans)


def test_span_loss_without_spans(tmp_path):
    """It is refused before anything is written, whatever the architecture."""
    for architecture in ("feedback", "transformer", "rotary"):
        config = settings(tmp_path, span_loss=1e-3, architecture=architecture)
        with pytest.raises(
            ValueError, match=r"span_loss is 0\.001, expected 0, as the model has no"
        ):
            quiet(SMALL, config)
        assert not config.run.exists()


def test_loss_falls(tmp_path):
    """A text that repeats itself is learnt: from ln 4 to below 0.1 nats in 60 steps."""
    (tmp_path / "text.txt").write_text("abcd" * 400)
    config = settings(
        tmp_path, max_steps=60, learning_rate=1e-2, eval_steps=60, checkpoint_steps=60
    )
    model = dataclasses.replace(SMALL, dropout=0.0)
    trainer = quiet(model, config)
    assert trainer.val_loss < 0.1 < math.log(4)


def test_evaluation_is_the_mean_over_the_whole_split():
    """`evaluate` equals cross-entropy row by row, whatever the segments it is cut into."""
    torch.manual_seed(0)
    model = FeedbackLM(dataclasses.replace(SMALL, vocab_size=6)).double()
    tokens = torch.randint(6, (83,))
    losses, N, B = [], 82, 4
    width = -(-N // B)
    for start in range(0, N, width):
        row = tokens[start : min(start + width, N) + 1]
        logits, _ = model.eval()(row[None, :-1])
        losses.append(F.cross_entropy(logits[0].float(), row[1:], reduction="none"))
    expected = torch.cat(losses)
    assert len(expected) == N
    model.train()
    for seq_len in (1, 5, 100):
        assert abs(evaluate(model, tokens, seq_len, B) - expected.mean().item()) < 1e-6
    assert model.training


def test_learning_rate_schedule():
    """Linear up to the peak in `warmup_steps`, then a cosine down to a tenth."""
    config = TrainConfig(learning_rate=1.0, warmup_steps=4, max_steps=104)
    rates = [learning_rate(i, config) for i in range(105)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert abs(rates[54] - 0.55) < 1e-12
    assert abs(rates[104] - 0.1) < 1e-12
    assert all(a > b for a, b in zip(rates[4:], rates[5:], strict=False))


def test_only_matrices_decay():
    """Weight decay acts on the weights of linear maps, each parameter is in one group."""
    model = FeedbackLM(SMALL)
    names = {id(p): n for n, p in model.named_parameters()}
    decayed, others = make_optimizer(model, TrainConfig()).param_groups
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0.0
    assert len(decayed["params"]) + len(others["params"]) == len(names)
    linear = {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert {names[id(p)] for p in decayed["params"]} == {f"{n}.weight" for n in linear}


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
def test_nan_stops_the_run_and_keeps_the_checkpoint(tmp_path, grad_clip):
    """The step is named, and the last good checkpoint can be loaded and resumed."""
    config = settings(tmp_path, grad_clip=grad_clip)
    original = Trainer.train_step

    def poisoned(self):
        if self.step == 3:
            self.model.head.bias.data[0] = math.nan
        return original(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "train_step", poisoned)
        with pytest.raises(ValueError, match="the loss is nan at step 4, expected a finite"):
            quiet(SMALL, config)
    assert all(p.isfinite().all() for p in FeedbackLM.from_pretrained(config.run).parameters())
    resumed = quiet(SMALL, config, resume=True)
    assert math.isfinite(resumed.val_loss)
    assert len(metrics(config)) == 6


def test_a_learning_rate_without_measure(tmp_path):
    """Exploding weights stop the run at the next loss, and none of its files contains them."""
    config = settings(tmp_path, learning_rate=1e30, grad_clip=0.0)
    with pytest.raises(ValueError, match=r"the loss is (nan|inf) at step 2, expected a finite"):
        quiet(SMALL, config)
    assert len(metrics(config)) == 1
    assert all(p.isfinite().all() for p in FeedbackLM.from_pretrained(config.run).parameters())


@pytest.mark.parametrize("grad_clip", [0.0, 1.0])
def test_weights_that_are_not_finite_are_no_checkpoint(tmp_path, grad_clip):
    """If a step with a checkpoint breaks the weights, the good checkpoint before it stays."""
    config = settings(tmp_path, grad_clip=grad_clip, checkpoint_steps=1, eval_steps=9)
    original = torch.optim.AdamW.step
    with pytest.MonkeyPatch.context() as patch:

        def step(self, *args):
            original(self, *args)
            if trainers[-1].step == 3:
                self.param_groups[0]["params"][0].data[0, 0] = math.inf

        trainers, init = [], Trainer.__init__

        def remember(self, *args):
            init(self, *args)
            trainers.append(self)

        patch.setattr(torch.optim.AdamW, "step", step)
        patch.setattr(Trainer, "__init__", remember)
        with pytest.raises(
            ValueError, match="the largest weight is inf at step 4, expected a finite"
        ):
            quiet(SMALL, config)
    assert Run(config.run).checkpoints.steps() == [3, 2]
    assert all(p.isfinite().all() for p in FeedbackLM.from_pretrained(config.run).parameters())
    whole = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "whole"))
    assert_same_run(quiet(SMALL, config, resume=True), whole)


def test_nan_in_the_validation_loss_stops_the_run(tmp_path):
    """A run of one step that ruins the model does not end as if all were well."""
    config = settings(tmp_path, learning_rate=1e30, grad_clip=0.0, max_steps=1)
    with pytest.raises(ValueError, match=r"the validation loss is (nan|inf) at step 1, expected"):
        quiet(SMALL, config)
    assert Run(config.run).checkpoints.steps() == [0]


def test_a_run_is_not_overwritten(tmp_path):
    """A second run in the same folder is refused and changes nothing; a stranger's file stays."""
    config = settings(tmp_path)
    quiet(SMALL, config)
    (config.run / "mine.txt").write_text("keep")
    before = {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match=r"already holds a run; .*--resume.*--overwrite.*--run"):
        quiet(SMALL, config)
    assert before == {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    quiet(SMALL, dataclasses.replace(config, max_steps=1), overwrite=True)
    assert len(metrics(config)) == 1
    assert (config.run / "mine.txt").read_text() == "keep"


def test_overwrite_with_a_mistake_loses_nothing(tmp_path):
    """The old run is removed only after text and settings were found to be valid."""
    config = settings(tmp_path)
    quiet(SMALL, config)
    with pytest.raises(ValueError, match="expected at least"):
        quiet(SMALL, dataclasses.replace(config, seq_len=5000), overwrite=True)
    assert len(metrics(config)) == 6


def test_resume_refuses_what_does_not_belong(tmp_path):
    """A truncated checkpoint, other settings, another text, no run: each is named."""
    config = settings(tmp_path)
    with pytest.raises(ValueError, match="holds no run; start one with"):
        quiet(SMALL, config, resume=True)
    quiet(SMALL, config)
    with pytest.raises(ValueError, match=r"begun with d_ff = 16, but now it is 24"):
        quiet(dataclasses.replace(SMALL, d_ff=24), config, resume=True)
    with pytest.raises(ValueError, match=r"begun with batch_size = 3, but now it is 4"):
        quiet(SMALL, dataclasses.replace(config, batch_size=4), resume=True)
    text = tmp_path / "text.txt"
    text.write_text(text.read_text()[::-1])
    with pytest.raises(ValueError, match="was made with a different text"):
        quiet(SMALL, config, resume=True)
    text.write_text(text.read_text()[::-1])
    for path in (config.run / "checkpoint").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"there is no checkpoint to resume from; .* --overwrite"):
        quiet(SMALL, config, resume=True)


def test_a_run_from_before_there_were_tokenizers(tmp_path):
    """A `config.json` without the newer settings: the run goes on, with the norm that it had."""
    config = settings(tmp_path)
    model = dataclasses.replace(SMALL, norm_memory=False)
    quiet(model, config)
    path = config.run / "config.json"
    stored = json.loads(path.read_text())
    for name in ("tokenizer", "bytes_per_token"):
        del stored[name]
    for name in ("tokenizer", "accumulate", "until_loss"):
        del stored["train"][name]
    path.write_text(json.dumps(stored))
    arguments = ["train", "--run", str(config.run), "--resume", "--max-steps", "8"]
    assert main(arguments) == 0
    assert len(metrics(config)) == 8
    loaded = FeedbackLM.from_pretrained(config.run)
    assert loaded.config == dataclasses.replace(model, vocab_size=6)
    assert loaded.transformer.norm_memory is None


def test_a_longer_run_goes_on(tmp_path):
    """`max_steps` may grow when a run is resumed."""
    config = settings(tmp_path)
    quiet(SMALL, config)
    quiet(SMALL, dataclasses.replace(config, max_steps=8), resume=True)
    assert len(metrics(config)) == 8
    before = {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="is from step 8, but max_steps is 7; expected at least 8"):
        quiet(SMALL, dataclasses.replace(config, max_steps=7), resume=True)
    assert before == {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}


def test_short_to_long_cannot_become_longer(tmp_path):
    """Its lengths are shares of `max_steps`: another number would change steps already taken."""
    config = settings(tmp_path, start_seq_len=4, max_steps=4)
    quiet(SMALL, config)
    with pytest.raises(ValueError, match="begun with max_steps = 4, but now it is 8"):
        quiet(SMALL, dataclasses.replace(config, max_steps=8), resume=True)
    assert len(metrics(config)) == 4


def test_bfloat16(tmp_path):
    """A run under autocast has nearly the losses of one without, but not the same."""
    config = settings(tmp_path)
    full = quiet(SMALL, config)
    half = quiet(SMALL, dataclasses.replace(config, run=tmp_path / "b", precision="bfloat16"))
    assert half.val_loss == pytest.approx(full.val_loss, abs=0.05)
    assert metrics(half.config)[0]["train_loss"] != metrics(config)[0]["train_loss"]


def test_unknown_device(tmp_path):
    """A device that is not there is named, and nothing is written."""
    config = settings(tmp_path, device="gpu")
    with pytest.raises(ValueError, match="device is 'gpu', unusable here; use cpu or auto"):
        quiet(SMALL, config)
    assert not config.run.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size is 0"),
        ({"max_steps": 1.5}, "max_steps is 1.5"),
        ({"segments": "none"}, "segments is 'none', expected one of random, carried"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"span_loss": -1.0}, "span_loss is -1.0, expected a number of at least 0"),
        ({"precision": "float16"}, "precision is 'float16'"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast', expected a finite number"),
        ({"learning_rate": float("inf")}, "learning_rate is inf, expected a finite number"),
        ({"seed": 1.5}, "seed is 1.5, expected a whole number"),
        ({"tensorboard": "no"}, "tensorboard is 'no', expected true or false"),
        ({"run": 3}, "run is 3, expected a path"),
    ],
)
def test_wrong_settings(changes, words):
    """Each is a ValueError that names the value and what was expected."""
    with pytest.raises(ValueError, match=words):
        TrainConfig(**changes)


def test_tensorboard_missing(tmp_path, monkeypatch):
    """Without the package the error says what to install, and no run is begun or lost."""
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    config = settings(tmp_path, tensorboard=True)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        quiet(SMALL, config)
    assert not config.run.exists()
    quiet(SMALL, dataclasses.replace(config, tensorboard=False))
    before = {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    with pytest.raises(ValueError, match="pip install tensorboard"):
        quiet(SMALL, config, overwrite=True)
    assert before == {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_events(tmp_path):
    """With the package, the losses of the run are in its events."""
    require_or_skip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    config = settings(tmp_path, tensorboard=True)
    quiet(SMALL, config)
    events = EventAccumulator(str(config.run))
    events.Reload()
    losses = [event.value for event in events.Scalars("train_loss")]
    assert losses == pytest.approx([row["train_loss"] for row in metrics(config)])
    assert len(events.Scalars("val_loss")) == 3
    (old,) = config.run.glob("events.out.tfevents.*")
    quiet(SMALL, config, overwrite=True)
    # A new file, with its beginning: the old one is gone, and the new one was not cleared away.
    (new,) = config.run.glob("events.out.tfevents.*")
    assert new != old
    versions = [event.file_version for event in EventFileLoader(str(new)).Load()]
    assert versions[0].startswith("brain.Event")
    old = new
    (config.run / "notes.txt").write_text("mine")
    quiet(SMALL, dataclasses.replace(config, tensorboard=False), overwrite=True)
    assert not old.exists()
    assert (config.run / "notes.txt").read_text() == "mine"


def test_short_to_long_schedule():
    """Lengths double up to `seq_len` in the middle of the run, in shares that stay aligned."""
    config = TrainConfig(seq_len=64, start_seq_len=16, max_steps=100)
    lengths = sequence_lengths(config)
    assert lengths == [16] * 24 + [32] * 24 + [64] * 52
    position = 0
    for length in lengths:
        assert position % length == 0
        position += length
    assert sequence_lengths(TrainConfig(max_steps=3)) == [64] * 3
    with pytest.raises(ValueError, match=r"start_seq_len is 24, expected .* 1, 2, 4, 8, 16, 32"):
        TrainConfig(start_seq_len=24)


@pytest.mark.parametrize("segments", ["random", "carried"])
def test_short_to_long_run(tmp_path, segments):
    """The metrics tell the length of each step and count the tokens; a resumed run equals it."""
    config = settings(tmp_path, start_seq_len=4, max_steps=8, segments=segments)
    whole = quiet(SMALL, config)
    rows = metrics(config)
    assert [row["seq_len"] for row in rows] == [4] * 4 + [8] * 4
    assert [row["tokens"] for row in rows] == [12, 24, 36, 48, 72, 96, 120, 144]
    half = dataclasses.replace(config, run=tmp_path / "half")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Interrupt, "requested", property(lambda self: trainers[-1].step == 3))
        trainers, original = [], Trainer.__init__

        def remember(self, *args):
            original(self, *args)
            trainers.append(self)

        patch.setattr(Trainer, "__init__", remember)
        stopped = quiet(SMALL, half)
    assert stopped.step == 3
    assert_same_run(quiet(SMALL, half, resume=True), whole)


def test_parallel_transformer_run_and_warm_start(tmp_path):
    """The baseline trains by the same loop, and a Feedback Transformer can begin from it."""
    config = settings(tmp_path, architecture="transformer")
    trained = quiet(SMALL, config)
    assert isinstance(TransformerLM.from_pretrained(config.run), TransformerLM)
    warm = dataclasses.replace(
        config, run=tmp_path / "warm", architecture="feedback", warm_start=config.run, max_steps=1,
        learning_rate=0.0,
    )  # fmt: skip
    model = quiet(SMALL, warm).model
    ours, theirs = model.state_dict(), trained.model.state_dict()
    for part in ("key", "value"):
        mean = sum(theirs[f"transformer.layers.{l}.kv.{part}.weight"] for l in range(2)) / 2
        assert torch.equal(ours[f"transformer.kv.{part}.weight"], mean)
    same = set(ours) & set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in same)
    assert set(ours) - same == {
        "transformer.mix.weight", "transformer.kv.key.weight", "transformer.kv.value.weight",
        "transformer.norm_memory.weight", "transformer.norm_memory.bias",
    }  # fmt: skip
    for part in ("weight", "bias"):
        mean = sum(theirs[f"transformer.layers.{l}.norm_attn.{part}"] for l in range(2)) / 2
        assert torch.equal(ours[f"transformer.norm_memory.{part}"], mean)
    with pytest.raises(ValueError, match=r"has .*, expected .*another configuration|another model"):
        quiet(dataclasses.replace(SMALL, d_ff=24), dataclasses.replace(warm, run=tmp_path / "x"))
    assert not (tmp_path / "x").exists()


def test_the_rival_trains(tmp_path):
    """Fused attention and rotary positions, by the same loop, stopped and resumed to the bit."""
    config = settings(tmp_path, architecture="rotary", segments="carried")
    whole = quiet(SMALL, config)
    assert isinstance(RotaryLM.from_pretrained(config.run), RotaryLM)
    half = dataclasses.replace(config, run=tmp_path / "half", max_steps=6)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "finished", property(lambda self: self.step >= 3))
        quiet(SMALL, half)
    assert_same_run(quiet(SMALL, half, resume=True), whole)


@pytest.mark.parametrize("segments", ["random", "carried"])
@pytest.mark.parametrize("architecture", ["feedback", "rotary"])
def test_a_batch_in_parts(tmp_path, segments, architecture):
    """Read in three parts, a batch gives the loss, the gradient and the memory of the whole."""
    config = settings(tmp_path, segments=segments, architecture=architecture)
    model = dataclasses.replace(SMALL, dropout=0.0)
    trainers = [Trainer(model, config), Trainer(model, dataclasses.replace(config, accumulate=3))]
    for trainer in trainers:
        trainer.model.double()
    past = trainers[0].model(trainers[0].batch_at(0).tokens)[1].m.detach()
    for given in (None, past):
        results = []
        for trainer in trainers:
            tokens, targets, _ = trainer.batch_at(1)
            found = trainer.gradients(tokens, targets, given)
            results.append([*found, *(p.grad.clone() for p in trainer.model.parameters())])
        for a, b in zip(*results, strict=True):
            assert (a - b).abs().max() < 1e-6
    with pytest.raises(ValueError, match="accumulate is 2, expected a divisor of batch_size = 3"):
        dataclasses.replace(config, accumulate=2)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_run_in_parts(tmp_path, precision):
    """Nearly the losses of the run that reads batches whole, and as many tokens."""
    model = dataclasses.replace(SMALL, dropout=0.0)
    config = settings(tmp_path, precision=precision)
    whole = quiet(model, config)
    parts = quiet(model, dataclasses.replace(config, run=tmp_path / "parts", accumulate=3))
    assert parts.val_loss == pytest.approx(
        whole.val_loss, abs=1e-4 + 0.01 * (precision != "float32")
    )
    assert [row["tokens"] for row in metrics(parts.config)] == [24 * i for i in range(1, 7)]


def test_until_a_loss(tmp_path):
    """Training stops at the first validation that is good enough, and not before."""
    config = settings(tmp_path, max_steps=40)
    losses = [row["val_loss"] for row in metrics(quiet(SMALL, config).config) if row["val_loss"]]
    goal = losses[3]
    first = next(i for i, loss in enumerate(losses) if loss <= goal)
    stopped = dataclasses.replace(config, run=tmp_path / "stopped", until_loss=goal)
    trainer = quiet(SMALL, stopped)
    assert trainer.finished
    assert trainer.step == 2 * (first + 1) < 40
    assert trainer.val_loss == losses[first] <= goal
    assert len(metrics(stopped)) == trainer.step
    again = quiet(SMALL, stopped, resume=True)
    assert again.step == trainer.step
    further = dataclasses.replace(stopped, until_loss=None)
    assert_same_run(
        quiet(SMALL, further, resume=True),
        quiet(SMALL, dataclasses.replace(config, run=tmp_path / "whole")),
    )


def test_a_run_of_bytes(tmp_path):
    """Any file at all: it is trained on, written from, and resumed, and says bits per byte."""
    (tmp_path / "text.txt").write_bytes(bytes(range(256)) * 8)
    config = settings(tmp_path, tokenizer="bytes")
    trainer = quiet(SMALL, config)
    assert trainer.model.config.vocab_size == 256
    assert trainer.bits_per_byte == pytest.approx(trainer.val_loss / math.log(2))
    stored = json.loads((config.run / "config.json").read_text())
    assert (stored["tokenizer"], stored["bytes_per_token"]) == ("bytes", 1)
    assert (config.run / "sample.txt").stat().st_size > 0
    assert quiet(SMALL, config, resume=True).step == 6


def test_a_run_of_pieces(tmp_path, capsys):
    """A tokenizer's file goes with the run and with the model; a changed one is not resumed."""
    require_or_skip("tokenizers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = {word: i for i, word in enumerate(["a", "b", "c", "d", "e", "?"])}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    file = tmp_path / "mine.json"
    tokenizer.save(str(file))
    config = settings(tmp_path, tokenizer=str(file))
    trainer = quiet(SMALL, config)
    assert trainer.model.config.vocab_size == 6
    assert (config.run / "tokenizer.json").read_text() == file.read_text()
    model = FeedbackLM.from_pretrained(config.run)
    model.save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "tokenizer.json").read_text() == file.read_text()
    assert quiet(SMALL, config, resume=True).step == 6
    # The file has moved: the copy in the run folder serves as well.
    file.rename(tmp_path / "moved.json")
    assert main(["train", "--run", str(config.run), "--resume", "--max-steps", "7"]) == 0
    assert len(metrics(config)) == 7
    # It has changed: two tokens have changed places.
    words = {**words, "a": 1, "b": 0}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.save(str(file))
    with pytest.raises(ValueError, match="or with a different tokenizer; restore what it was"):
        quiet(SMALL, dataclasses.replace(config, max_steps=8), resume=True)
    # A prompt must be something that has a token.
    assert main(["generate", "--run", str(config.run), "--prompt", "ab", "--seed", "1"]) == 0
    tokenizer.add_special_tokens(["!"])
    tokenizer.save(str(config.run / "tokenizer.json"))
    assert main(["generate", "--run", str(config.run), "--prompt", "ab"]) == 2
    assert "has a tokenizer of 7 tokens, but a model of 6" in capsys.readouterr().err


def test_a_prompt_without_a_token(tmp_path, capsys):
    """Some tokenizers make nothing of a line break; the error says so."""
    require_or_skip("tokenizers")
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(tmp_path / "words.json"))
    (tmp_path / "text.txt").write_text("a b b " * 200)
    config = settings(tmp_path, tokenizer=str(tmp_path / "words.json"))
    quiet(SMALL, config)
    assert main(["generate", "--run", str(config.run)]) == 2
    assert "expected text that is at least one token; give another" in capsys.readouterr().err


def test_a_warm_start_has_the_same_tokens(tmp_path):
    """A model of the same sizes that was trained on other characters is refused."""
    config = settings(tmp_path, architecture="transformer")
    quiet(SMALL, config)
    other = tmp_path / "other.txt"
    other.write_text((tmp_path / "text.txt").read_text().replace("a", "z"))
    warm = dataclasses.replace(
        config, run=tmp_path / "warm", data=str(other), architecture="feedback",
        warm_start=config.run,
    )  # fmt: skip
    with pytest.raises(ValueError, match="was trained with other tokens than those of this run"):
        quiet(SMALL, warm)
    assert not warm.run.exists()


def test_files_of_others_stay(tmp_path):
    """A new run removes nothing; in a folder with somebody's tokenizer it does not even begin."""
    config = settings(tmp_path)
    config.run.mkdir()
    (config.run / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="already holds a run"):
        quiet(SMALL, config)
    assert (config.run / "tokenizer.json").read_text() == "{}"


def test_full_disk(tmp_path):
    """No file may grow beyond 20 kB: one line, exit code 2, and the older run is untouched."""
    config = settings(tmp_path)
    quiet(SMALL, config)
    before = {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    code = (
        "import resource, runpy, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
        "runpy.run_module('feedback', run_name='__main__')"
    )
    arguments = command(config, "--resume", "--max-steps", "9")[3:]
    result = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert result.returncode == 2, result.stderr
    assert f"File too large: {config.run}" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    after = {p: p.read_bytes() for p in config.run.rglob("*") if p.is_file()}
    assert {p for p in before if before[p] != after[p]} <= {config.run / "metrics.jsonl"}
    assert before.keys() == after.keys()


def test_sample_needs_no_line_break(tmp_path):
    """A text without line breaks is sampled from its first character."""
    (tmp_path / "text.txt").write_text("xyzzy" * 200)
    trainer = Trainer(SMALL, settings(tmp_path))
    assert set(trainer.sample(20)) <= set("xyz")
    assert trainer.tokenizer.characters == Characters.of("xyz").characters
