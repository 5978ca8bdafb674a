"""The picture shows the numbers of the run."""

import json
from pathlib import Path

import pytest

from feedback.support.figures import COLOURS, FEEDBACK, TRANSFORMER
from feedback.training.plot import colours, draw_runs, plot_runs, smooth
from feedback.training.runs import METRIC_KEYS, Run


def make_run(folder, losses, every=2):
    folder.mkdir()
    for i, loss in enumerate(losses, 1):
        val = loss + 0.5 if i % every == 0 else None
        values = (i, i * 100, i / 10, loss, val, 0.1, 8)
        Run(folder).append_metrics(dict(zip(METRIC_KEYS, values, strict=True)))
    return folder


@pytest.mark.parametrize(("x", "per"), [("tokens", 0.01), ("seconds", 10), ("step", 1)])
def test_curves_are_the_metrics(tmp_path, x, per):
    """Training and validation losses, against the axis that was asked for."""
    figure = draw_runs([make_run(tmp_path / "a", [4.0, 3.0, 2.0, 1.0])], x)
    (axes,) = figure.axes
    train, val = axes.lines
    assert train.get_xydata().tolist() == [[i / per, 5.0 - i] for i in (1, 2, 3, 4)]
    assert val.get_xydata().tolist() == [[2 / per, 3.5], [4 / per, 1.5]]
    assert "nats per character" in axes.get_ylabel()
    assert axes.get_xlabel() == {
        "tokens": "characters seen", "seconds": "time (seconds)", "step": "optimiser steps",
    }[x]  # fmt: skip
    assert [t.get_text() for t in axes.get_legend().get_texts()] == ["a: validation 1.500"]


def test_several_runs(tmp_path):
    """Each run has its colour and its name; one that was never validated is shown too."""
    a = make_run(tmp_path / "a", [2.0, 1.0])
    b = make_run(tmp_path / "b", [3.0], every=9)
    (axes,) = draw_runs([a, b]).axes
    assert len({line.get_color() for line in axes.lines}) == 2
    assert axes.lines[0].get_color() == FEEDBACK != axes.lines[2].get_color()
    assert [t.get_text() for t in axes.get_legend().get_texts()] == [
        "a: validation 1.500",
        "b: training",
    ]


def test_a_run_has_the_colour_of_its_kind(tmp_path):
    """Feedback or none; others of a kind get colours that no kind has, until there are none."""
    config = {"architecture": "TransformerLM", "vocab_size": 4, "d_model": 8, "d_ff": 8}
    runs = [Run(make_run(tmp_path / name, [1.0])) for name in "abcdefgh"]
    for run in runs[:2]:
        (run / "config.json").write_text(json.dumps(config))
    given = colours(runs)
    assert given[0] == TRANSFORMER and given[2] == FEEDBACK
    assert len(set(given[:6])) == 6 and set(given) == set(COLOURS)


def test_the_folder_one_is_in_has_a_name(tmp_path, monkeypatch):
    """The current folder, `.`, is shown under its real name."""
    monkeypatch.chdir(make_run(tmp_path / "mine", [1.0, 2.0]))
    (axes,) = draw_runs([Path(".")]).axes
    assert axes.get_legend().get_texts()[0].get_text() == "mine: validation 2.500"


def test_smooth_is_a_trailing_mean():
    """Each value is averaged with those before it, as far as there are any."""
    assert smooth([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]


def test_writes_a_png(tmp_path):
    """The file is a PNG."""
    plot_runs([make_run(tmp_path / "a", [1.0, 2.0])], tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_to_plot(tmp_path):
    """No run, no metrics, no step: each is a ValueError that says so."""
    with pytest.raises(ValueError, match="no run to plot"):
        draw_runs([])
    with pytest.raises(ValueError, match=r"holds no metrics.jsonl"):
        draw_runs([tmp_path])
    (tmp_path / "metrics.jsonl").touch()
    with pytest.raises(ValueError, match="has no step to plot"):
        draw_runs([tmp_path])


@pytest.mark.parametrize(
    "damage",
    [b"{", b"\xff", b"[1]", b'{"step": 1}', {"train_loss": "low"}, {"train_loss": None}],
)
def test_damaged_metrics(tmp_path, damage):
    """A line that is cut off, not text, no object, or without its numbers is named."""
    folder = make_run(tmp_path / "a", [1.0])
    path = folder / "metrics.jsonl"
    row = json.loads(path.read_text())
    line = json.dumps({**row, **damage}).encode() if isinstance(damage, dict) else damage
    path.write_bytes(path.read_bytes() + line + b"\n")
    with pytest.raises(ValueError, match=r"metrics.jsonl, line 2 is damaged: expected .* seq_len"):
        draw_runs([folder])
