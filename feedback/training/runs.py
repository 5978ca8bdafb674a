r"""
---
title: The run folder
summary: Everything about one training run, in files that other programs can read.
---

# The run folder

| file | holds |
|---|---|
| `config.json` | the model, the run, and the tokenizer |
| `tokenizer.json` | the tokenizer, if it is one of Hugging Face's |
| `metrics.jsonl` | one line per step, with the keys of `METRIC_KEYS` |
| `model.safetensors` | the weights, as of the last checkpoint |
| `checkpoint/state.pt` | all that is needed to resume: weights, optimiser, memory |
| `loss.png` | the loss, drawn |
| `sample.txt` | what the model writes |

A folder that holds a run is never overwritten unless `--overwrite` asks for it.
"""

import io
import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..config import ModelConfig
from ..data.tokenizer import TOKENIZER
from ..lm.pretrained import CONFIG, WEIGHTS, read_config
from ..support.checks import require
from ..support.files import naming, write_whole
from .train_config import TrainConfig

METRICS, CHECKPOINT = "metrics.jsonl", "checkpoint/state.pt"
PLOT, SAMPLE = "loss.png", "sample.txt"
EVENTS = "events.out.tfevents.*"
"""What TensorBoard writes, if it was asked for."""
METRIC_KEYS = ("step", "tokens", "seconds", "train_loss", "val_loss", "learning_rate", "seq_len")

MAY_CHANGE = {
    *("run", "warm_start", "max_steps", "until_loss", "eval_steps", "checkpoint_steps"),
    *("device", "implementation", "tensorboard", "tokenizer"),
}
"""
The settings that may change when a run is resumed. The file of a tokenizer may have moved: that its
contents are the same is known from the checkpoint.
"""

STATE_KEYS = {"step", "seconds", "val_loss", "digest", "model", "optimizer", "memory"}
"""What a checkpoint holds."""


@dataclass(frozen=True)
class Run:
    """
    ## One folder
    """

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    def is_empty(self) -> bool:
        """Whether the folder holds no file of a run."""
        names = (CONFIG, METRICS, CHECKPOINT, WEIGHTS, TOKENIZER)
        return not any((self / name).exists() for name in names)

    def refuse_to_overwrite(self) -> None:
        """Raises `ValueError` if the folder already holds a run, or is a file."""
        is_file = self.folder.is_file()
        require(not is_file, f"{self.folder} is a file, expected a folder; choose another --run")
        require(
            self.is_empty(),
            f"{self.folder} already holds a run; continue it with --resume, replace it with "
            "--overwrite, or choose another folder with --run",
        )

    def clear(self) -> None:
        """Removes the files of a run, and nothing else that may be in the folder."""
        for name in (CHECKPOINT, METRICS, WEIGHTS, CONFIG, TOKENIZER, PLOT, SAMPLE):
            (self / name).unlink(missing_ok=True)
        for events in self.folder.glob(EVENTS):
            events.unlink()

    def read(self) -> dict[str, Any]:
        """The contents of `config.json`; raises `ValueError` if the folder holds no run."""
        require(
            (self / CONFIG).is_file(),
            f"{self.folder} holds no run; start one with: python -m feedback train "
            f"--run {self.folder}",
        )
        values = read_config(self.folder)
        require(
            isinstance(values.get("train", {}), dict),
            f"{self / CONFIG} is damaged: expected a JSON object for the key 'train'",
        )
        try:
            TrainConfig.from_dict(values.get("train", {}))
        except ValueError as error:
            raise ValueError(f"{self / CONFIG} does not describe a valid run: {error}") from error
        return values

    def unit(self) -> str:
        """What the run reads: `byte`, `character`, or, if the tokenizer is a file, `token`."""
        path = self / CONFIG
        name = read_config(self.folder).get("tokenizer") if path.is_file() else None
        return {"bytes": "byte", TOKENIZER: "token"}.get(str(name), "character")

    def check_same(self, model: ModelConfig, config: TrainConfig) -> None:
        """Raises `ValueError` if the run began with other settings than these."""
        stored = self.read()
        # A setting that a run from before does not name had the value that is its default now.
        begun = TrainConfig.from_dict(stored.get("train", {})).to_dict()
        old = {**vars(ModelConfig.from_dict(stored)), **begun}
        new = {**vars(model), **config.to_dict()}
        # Short to long divides up `max_steps`; with another number the early steps would differ.
        fixed = {"max_steps"} if config.start_seq_len else set()
        for name in sorted(set(new) - MAY_CHANGE | fixed):
            require(
                old[name] == new[name],
                f"{self.folder} was begun with {name} = {old[name]!r}, but now it is "
                f"{new[name]!r}; go back to {old[name]!r}, or choose another folder with --run",
            )

    def append_metrics(self, metrics: dict[str, Any]) -> None:
        """Adds one line to `metrics.jsonl`."""
        line = json.dumps({key: metrics[key] for key in METRIC_KEYS})
        path = self / METRICS
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`; raises `ValueError` if it is missing or damaged."""
        path = self / METRICS
        require(path.is_file(), f"{self.folder} holds no {METRICS}, expected the folder of a run")
        rows = []
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), 1):
            try:
                row = json.loads(line)
                rows.append({key: row[key] for key in METRIC_KEYS})
                # Only the validation loss may be missing: it is not computed at every step.
                given = [v for k, v in rows[-1].items() if (k, v) != ("val_loss", None)]
                require(all(isinstance(v, int | float) for v in given), "not a number")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number} is damaged: expected a JSON object with numbers for "
                    f"the keys {', '.join(METRIC_KEYS)}"
                ) from error
        return rows

    def truncate_metrics(self, step: int) -> None:
        """Drops the lines after `step`: the steps after the checkpoint are taken again."""
        kept: Iterable[str] = ()
        if (self / METRICS).exists():
            # If the run was killed, its last line may be cut off; it is after the checkpoint.
            kept = (self / METRICS).read_text(encoding="utf-8").splitlines(keepends=True)[:step]
        write_whole(self / METRICS, "".join(kept))

    def save_checkpoint(self, state: dict[str, Any]) -> None:
        """Writes `state`, completely or not at all."""
        buffer = io.BytesIO()
        torch.save(state, buffer)
        write_whole(self / CHECKPOINT, buffer.getvalue())

    def load_checkpoint(self) -> dict[str, Any]:
        """The last `state` saved; raises `ValueError` if it is missing or damaged."""
        path = self / CHECKPOINT
        require(
            path.is_file(),
            f"{self.folder} has no checkpoint to resume from; start again with --overwrite",
        )
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # Bytes that are no checkpoint can raise any error.
            raise ValueError(
                f"{path} is damaged or truncated; start again with --overwrite"
            ) from error
        require(
            isinstance(state, dict) and state.keys() >= STATE_KEYS,
            f"{path} is not the checkpoint of a run; start again with --overwrite",
        )
        return state


def event_writer(config: TrainConfig) -> Callable[[], Any]:
    """
    A function that opens the events for TensorBoard, or, if none are wanted, a context of `None`.
    Raises `ValueError` at once if the package is not there; nothing is written before the call.
    """
    if not config.tensorboard:
        return nullcontext
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError("--tensorboard needs a package: pip install tensorboard") from error
    return partial(SummaryWriter, str(config.run))
