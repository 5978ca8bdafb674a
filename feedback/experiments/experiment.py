r"""
---
title: Running an experiment
summary: From nothing to trained contestants and a record of how well each of them did.
---

# Running an experiment

What has to be written down, so that somebody who doubts a number can find out? The command, the
seed, the version of the code, the machine; how much each contestant read, how long it took, how
many parameters it has; and how it did at each length. All of that is one JSON file, the *record*,
which is rewritten after every contestant. What it holds already is not run again, so an experiment
that was stopped goes on with the next contestant; and a teacher with checkpoints goes on in the
middle of one.

An experiment is a task, the sizes of the Feedback Transformer, a course, and the contestants with
a learning rate for each. They have nothing to do with each other, so if torchrun starts several
processes, [each trains some of them](../../docs/pages/scaling.md).
"""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_model
from torch import nn

from ..benchmark.measure import machine
from ..config import ModelConfig
from ..support.checks import require
from ..support.files import in_turn, write_whole
from ..training.checkpoint import Checkpoints
from ..training.distributed import choose_device, first, rank, size
from .course import Course, examine, teach
from .released import Recipe
from .task import Task

TEST_SEED = 2**31
"""
Added to the seed of a run: the seed of its examination, on other sequences than training. PyTorch's
generator keeps 32 bits of a seed, so a larger power of two would change nothing.
"""


Show = Callable[[dict[str, Any]], None]
"""What is done with each new row of a curve."""
Teacher = Callable[[nn.Module, Task, Any, int, Show, Path | None], list[dict[str, Any]]]
"""
Trains a module on a task, by a course and with a seed; shows each row of the curve, may keep what
it needs in a folder, and returns the curve.
"""


def at_a_stretch(
    model: nn.Module, task: Task, course: Course, seed: int, show: Show, folder: Path | None
) -> list[dict[str, Any]]:
    """`teach`, without checkpoints: a course takes minutes, so `folder` is not used."""
    return teach(model, task, course, seed, show)


class Contestant(NamedTuple):
    """How somebody who takes part is built from the Feedback Transformer's sizes, and its rate."""

    build: Callable[[ModelConfig], nn.Module]
    learning_rate: float


@dataclass(frozen=True)
class Experiment:
    """
    ## What is compared
    """

    task: Task
    """What has to be learnt."""
    contestants: Mapping[str, Contestant]
    """Who takes part, by name."""
    course: Course | Recipe
    """How all of them are taught, but for the learning rate."""
    lengths: tuple[int, ...]
    """Lengths of the sequences on which they are examined."""
    model: Mapping[str, Any] = field(default_factory=dict)
    """Sizes of the Feedback Transformer, as in `ModelConfig`."""
    exam: Task | None = None
    """What they are examined on, if it is not the task itself."""
    teacher: Teacher = at_a_stretch
    """Who teaches them."""
    device: str = "cpu"
    """Where they are taught: cpu, or auto, which is a GPU if there is one."""

    def config(self) -> ModelConfig:
        """The Feedback Transformer; its vocabulary is that of the task."""
        V = max(self.task.vocab_size, self.task.n_labels)
        sizes = {"d_model": 64, "n_layers": 2, "n_heads": 4, "d_ff": 256, "mem_len": 1}
        return ModelConfig(vocab_size=V, **{**sizes, **self.model})


def commit() -> str | None:
    """The version of the code in git, with a plus if it was changed since; `None` without git."""
    here = Path(__file__).parent
    try:
        words = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def read_record(path: Path, name: str) -> dict[str, Any]:
    """The record so far; raises `ValueError` if the file is not the record of this experiment."""
    if not path.exists():
        return {"experiment": name, "runs": []}
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        require(record["experiment"] == name and isinstance(record["runs"], list), "another")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise ValueError(
            f"{path} is not the record of the experiment {name!r}; move it away, or choose another "
            "folder with --out"
        ) from error
    return record


def write_record(path: Path, record: dict[str, Any]) -> None:
    """Writes the record, a line for each run."""
    runs = ",\n".join(json.dumps(run) for run in record["runs"])
    write_whole(path, f'{{"experiment": "{record["experiment"]}", "runs": [\n{runs}\n]}}\n')


def add_run(path: Path, name: str, run: dict[str, Any]) -> None:
    """Adds a run to the record, in which other processes may be writing too."""
    with in_turn(path.with_suffix(".lock")):
        record = read_record(path, name)
        record["runs"].append(run)
        write_record(path, record)


def origin(command: str, device: str = "cpu") -> dict[str, Any]:
    """Where a run comes from."""
    return {"command": command, "commit": commit(), "machine": machine(choose_device(device))}


def rounded(row: dict[str, Any]) -> dict[str, Any]:
    """Numbers with as many digits as anybody reads."""
    return {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}


def take_part(
    experiment: Experiment,
    who: str,
    seed: int,
    show: Callable[[str], None],
    folder: Path | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """
    ## One contestant

    Builds it, teaches it, examines it; returns the trained module and its entry in the record. A
    teacher whose lesson is long keeps in `folder` what it needs to go on with.
    """
    contestant = experiment.contestants[who]
    course = replace(experiment.course, learning_rate=contestant.learning_rate)
    torch.manual_seed(seed)
    model = contestant.build(experiment.config())

    def progress(row: dict[str, Any]) -> None:
        done = f"{row['tokens'] / course.tokens:.0%} of {course.tokens:,} tokens"
        show(
            f"{who}, seed {seed}: {done}, length {row['seq_len']}, "
            f"loss {row['loss']:.3f}, right {row['accuracy']:.3f}"
        )

    model.to(choose_device(experiment.device))
    curve = experiment.teacher(model, experiment.task, course, seed, progress, folder)
    model.cpu()
    exam = experiment.exam or experiment.task
    test = examine(model, exam, experiment.lengths, seed + TEST_SEED)
    return model, {
        "contestant": who,
        "seed": seed,
        "learning_rate": course.learning_rate,
        "parameters": sum(p.numel() for p in model.parameters()),
        "tokens": curve[-1]["tokens"],
        "seconds": round(curve[-1]["seconds"], 1),
        "test": {T: rounded(row) for T, row in test.items()},
        "curve": [rounded(row) for row in curve],
    }


def save_weights(model: Any, folder: Path) -> None:
    """Keeps what was trained: a model of ours as it is loaded again, any other as its tensors."""
    if hasattr(model, "save_pretrained"):
        model.save_pretrained(folder)
    else:
        folder.mkdir(parents=True, exist_ok=True)
        save_model(model, str(folder / "model.safetensors"))


def run_experiment(
    name: str,
    experiment: Experiment,
    seed: int,
    out: Path,
    command: str,
    show: Callable[[str], None] = lambda line: print(line, file=sys.stderr),
) -> Path:
    """
    ## All contestants

    Runs those that the record does not have with this seed, one after the other, or, of several
    processes, its share of them; returns the path of the record. Weights are in folders beside it,
    `NAME/CONTESTANT_SEED`, with `_2` and so on if the record has a run of that name by another
    rate or budget. Raises `ValueError` if there is another file in the place of the record.
    """
    path = out / f"{name}.json"
    record = read_record(path, name)
    for contestant in experiment.contestants.values():
        contestant.build(experiment.config())  # What cannot be built fails here, before hours pass.
    taught = asdict(experiment.course), asdict(experiment.config())
    known = [
        (run["contestant"], run["seed"], run["learning_rate"], run["course"]["tokens"])
        for run in record["runs"]
    ]
    for who, (_, rate) in list(experiment.contestants.items())[rank() :: size()]:
        if (who, seed, rate, experiment.course.tokens) in known:
            show(f"{who}, seed {seed}: in {path} already")
            continue
        namesakes = sum((who, seed) == other[:2] for other in known)
        folder = out / name / (f"{who}_{seed}" + (f"_{namesakes + 1}" if namesakes else ""))
        unfinished = folder.with_name(f"{folder.name}_unfinished")
        model, entry = take_part(experiment, who, seed, show, unfinished)
        save_weights(model, folder)
        entry |= {"course": taught[0], "model": taught[1], **origin(command, experiment.device)}
        add_run(path, name, entry)
        # Not before all of it is written down.
        Checkpoints(unfinished).clear(all=True)
    return path


def run_study(
    name: str, study: Callable[[int], dict[str, Any]], seed: int, out: Path, command: str
) -> Path:
    """
    ## What is no contest

    Adds what `study` finds with this seed to its record, unless it is there; returns the path. Of
    several processes the first does that alone. Raises `ValueError` if there is another file in the
    place of the record.
    """
    path = out / f"{name}.json"
    known = [run["seed"] for run in read_record(path, name)["runs"]]
    if first() and seed not in known:
        add_run(path, name, {**study(seed), **origin(command)})
    return path
