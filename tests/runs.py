"""Small runs, for the tests of training."""

import sys

import torch

from feedback import ModelConfig, TrainConfig
from feedback.training.runs import Run
from feedback.training.train import train
from feedback.training.trainer import Trainer

SMALL = ModelConfig(d_model=16, n_layers=2, n_heads=2, d_ff=16, mem_len=8, dropout=0.2)


def settings(folder, **changes) -> TrainConfig:
    """A run of six small steps on a text of its own."""
    text = folder / "text.txt"
    if not text.exists():
        generator = torch.Generator().manual_seed(0)
        letters = torch.randint(6, (1500,), generator=generator).tolist()
        text.write_text("".join("abcde\n"[i] for i in letters))
    defaults = dict(
        run=folder / "run", data=str(text), batch_size=3, seq_len=8, max_steps=6, warmup_steps=2,
        eval_steps=2, checkpoint_steps=2, device="cpu",
    )  # fmt: skip
    return TrainConfig(**{**defaults, **changes})


def quiet(*args, **kwargs):
    return train(*args, show=lambda line: None, **kwargs)


def metrics(config) -> list:
    """The metrics of a run, without its timings."""
    return [{**row, "seconds": None} for row in Run(config.run).metrics()]


def assert_same_run(a: Trainer, b: Trainer):
    """Bitwise: metrics, weights, and the state of the optimiser."""
    assert metrics(a.config) == metrics(b.config)
    for x, y in zip(a.model.parameters(), b.model.parameters(), strict=True):
        assert torch.equal(x, y)
    states = (t.optimizer.state_dict()["state"] for t in (a, b))
    for x, y in zip(*(s.values() for s in states), strict=True):
        assert all(torch.equal(x[k], y[k]) for k in x)


def command(config: TrainConfig, *more: str) -> list[str]:
    """The command line of a run of SMALL."""
    return [
        sys.executable, "-m", "feedback", "train", "--run", str(config.run), "--data", config.data,
        "--batch-size", "3", "--seq-len", "8", "--d-model", "16", "--n-layers", "2",
        "--n-heads", "2", "--d-ff", "16", "--mem-len", "8", *more,
    ]  # fmt: skip
