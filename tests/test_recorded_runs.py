"""What is written about recorded runs is what their files say."""

import json
import re
import shlex
from pathlib import Path

import pytest

from feedback import FeedbackLM, ModelConfig, TransformerLM
from feedback.__main__ import parse
from feedback.runs import Run

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "docs" / "runs"
ROWS = re.findall(
    r"^\| `(\w+)` \| `python -m feedback (.+?)` \| ([\d,]+) \| ([\d,]+) \| ([\d.]+) \| (\d+) \|$",
    (RUNS / "README.md").read_text(encoding="utf-8"),
    re.M,
)


def test_every_run_has_a_row():
    """The table lists each folder once."""
    assert sorted(row[0] for row in ROWS) == sorted(p.name for p in RUNS.iterdir() if p.is_dir())


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_numbers(row):
    """Parameters, characters, loss and seconds are those of the configuration and the metrics."""
    name, _, parameters, tokens, loss, seconds = row
    last = Run(RUNS / name).metrics()[-1]
    assert last["tokens"] == int(tokens.replace(",", ""))
    assert f"{last['val_loss']:.4f}" == loss
    assert round(last["seconds"]) == int(seconds)
    stored = json.loads((RUNS / name / "config.json").read_text())
    cls = {"FeedbackLM": FeedbackLM, "TransformerLM": TransformerLM}[stored["architecture"]]
    model = cls(ModelConfig.from_dict(stored))
    assert sum(p.numel() for p in model.parameters()) == int(parameters.replace(",", ""))


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_the_command_still_means_this_run(row):
    """The command, with the defaults of today, asks for the settings that were recorded."""
    name, command, *_ = row
    stored = json.loads((RUNS / name / "config.json").read_text())
    today = parse(shlex.split(command))
    ours = {**today.training.to_dict(), "run": None, "implementation": None}
    assert ours == {**stored["train"], "run": None, "implementation": None}
    model = ModelConfig.from_dict({**stored, "vocab_size": today.model.vocab_size})
    assert today.model_config() == model


def test_the_readme_quotes_the_recorded_run():
    """Loss and seconds in the README are those of the default preset's run."""
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    found = re.search(r"a validation loss of ([\d.]+) nats per character after (\d+) sec", readme)
    last = Run(RUNS / "tiny_shakespeare").metrics()[-1]
    assert (f"{last['val_loss']:.2f}", str(round(last["seconds"]))) == found.groups()
