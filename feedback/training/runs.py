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
| `checkpoint/step_*.safetensors` | all that is needed to resume: weights, optimiser, memory |
| `loss.png` | the loss, drawn |
| `sample.txt` | what the model writes |

A folder that holds a run is never overwritten unless `--overwrite` asks for it, and only one
process at a time writes to it: `.lock` is the file that it holds. If torchrun started the run, the
file says which: what it starts again after a crash goes on with its own run, and with no other.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..config import ModelConfig
from ..data.tokenizer import TOKENIZER
from ..lm.pretrained import CONFIG, WEIGHTS, read_config
from ..support.checks import is_a, require
from ..support.files import locked, naming, remove_leftovers, sync, write_whole
from .checkpoint import Checkpoint, Checkpoints
from .distributed import job
from .train_config import TrainConfig

METRICS, CHECKPOINT, LOCK = "metrics.jsonl", "checkpoint", ".lock"
PLOT, SAMPLE = "loss.png", "sample.txt"
FORMER_CHECKPOINT = "checkpoint/state.pt"
"""What version 0.1.0 wrote: a pickle, which is not opened any more."""
EVENTS = "events.out.tfevents.*"
"""What TensorBoard writes, if it was asked for."""
METRIC_KEYS = ("step", "tokens", "seconds", "train_loss", "val_loss", "learning_rate", "seq_len")

MAY_CHANGE = {
    *("run", "warm_start", "max_steps", "until_loss", "eval_steps", "checkpoint_steps"),
    *("device", "implementation", "sharded", "tensorboard", "tokenizer"),
}
"""
The settings that may change when a run is resumed. The file of a tokenizer may have moved: that its
contents are the same is known from the checkpoint.
"""


@dataclass(frozen=True)
class Run:
    """
    ## One folder
    """

    folder: Path

    def __truediv__(self, name: str) -> Path:
        return self.folder / name

    @property
    def checkpoints(self) -> Checkpoints:
        """Its last checkpoints."""
        return Checkpoints(self / CHECKPOINT)

    def lock(self) -> AbstractContextManager[None]:
        """Holds the folder; raises `ValueError` at once if another process trains in it."""
        return locked(
            self / LOCK,
            f"another process is training in {self.folder}; wait for it, stop it, or choose "
            "another folder with --run",
        )

    def sign(self) -> None:
        """Notes which torchrun trains here; to be called by the process that has the lock."""
        (self / LOCK).write_text(job(), encoding="utf-8")

    def is_ours(self) -> bool:
        """Whether the torchrun that started this process has begun to train here before."""
        path = self / LOCK
        signed = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        return job() == signed != ""

    def how_to_begin(self, resume: bool, overwrite: bool) -> tuple[bool, bool]:
        """
        Whether to resume and whether to overwrite: as the command line says, unless torchrun has
        restarted the process. Raises `ValueError` if the folder does not allow it.
        """
        if self.is_ours():
            begun = (self / CONFIG).is_file()
            return begun, not begun
        if not (resume or overwrite):
            self.refuse_to_overwrite()
        if resume:
            self.read()
        return resume, overwrite

    def is_empty(self) -> bool:
        """Whether the folder holds no file of a run."""
        return self.is_new() and not any((self / n).exists() for n in (CONFIG, WEIGHTS, TOKENIZER))

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
        for name in (FORMER_CHECKPOINT, METRICS, WEIGHTS, CONFIG, TOKENIZER, PLOT, SAMPLE):
            (self / name).unlink(missing_ok=True)
        self.checkpoints.clear(all=True)
        for events in self.folder.glob(EVENTS):
            events.unlink()

    def is_new(self) -> bool:
        """Whether nothing but the settings was written before the run was stopped."""
        names = (METRICS, FORMER_CHECKPOINT)
        return not (any((self / n).exists() for n in names) or self.checkpoints.steps())

    def remove_leftovers(self) -> None:
        """Removes the half-written files of a process that was killed."""
        names = (METRICS, WEIGHTS, CONFIG, TOKENIZER, PLOT, SAMPLE)
        remove_leftovers(self.folder, *names)
        remove_leftovers(self / CHECKPOINT, Path(FORMER_CHECKPOINT).name)
        self.checkpoints.clear()

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

    def config(self, key: str) -> Any:
        """A value of `config.json`; `None` if there is no such key, or no such file yet."""
        return read_config(self.folder).get(key) if (self / CONFIG).is_file() else None

    def unit(self) -> str:
        """What the run reads: `byte`, `character`, or, if the tokenizer is a file, `token`."""
        return {"bytes": "byte", TOKENIZER: "token"}.get(str(self.config("tokenizer")), "character")

    def has_feedback(self) -> bool:
        """Whether it trains a model with feedback; it does if nothing else is said."""
        return self.config("architecture") not in ("TransformerLM", "RotaryLM")

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

    def metrics(self, last: int | None = None) -> list[dict[str, Any]]:
        """
        The lines of `metrics.jsonl`, or those up to the step `last`, whatever comes after it.
        Raises `ValueError` if the file is missing or damaged. What follows the last line break is
        no line: it is being written, or the process was killed while it was.
        """
        path = self / METRICS
        require(path.is_file(), f"{self.folder} holds no {METRICS}, expected the folder of a run")
        rows: list[dict[str, Any]] = []
        text = path.read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.split("\n")[:-1], 1):
            if last is not None and len(rows) >= last:
                break
            try:
                row = json.loads(line)
                rows.append({key: row[key] for key in METRIC_KEYS})
                # Only the validation loss may be missing: it is not computed at every step.
                given = [v for k, v in rows[-1].items() if (k, v) != ("val_loss", None)]
                require(all(is_a(v, float) for v in given), "not a number")
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise ValueError(
                    f"{path}, line {number} is damaged: expected a JSON object with numbers for "
                    f"the keys {', '.join(METRIC_KEYS)}"
                ) from error
            require(
                rows[-1]["step"] == number or last is None,
                f"{path}, line {number} is of step {rows[-1]['step']}, expected step {number}; "
                "restore the file, or start again with --overwrite",
            )
        return rows

    def metrics_until(self, step: int) -> list[dict[str, Any]]:
        """The rows of the steps 1 to `step`; raises `ValueError` if one of them is missing."""
        rows = self.metrics(step) if step > 0 else []
        require(
            len(rows) == step,
            f"{self / METRICS} ends after step {len(rows)}, but the checkpoint is of step {step}; "
            "restore the file, or start again with --overwrite",
        )
        return rows

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Writes `metrics.jsonl` anew: the steps after these rows are taken again."""
        write_whole(self / METRICS, "".join(json.dumps(row) + "\n" for row in rows))

    def save_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Writes a checkpoint, completely or not at all; before it, the metrics up to its step."""
        if checkpoint.progress.step > 0:
            sync(self / METRICS)
        self.checkpoints.save(checkpoint)

    def load_checkpoint(self, show: Callable[[str], None]) -> Checkpoint:
        """The last checkpoint that is whole; raises `ValueError` if there is none."""
        require(
            bool(self.checkpoints.steps()) or not (self / FORMER_CHECKPOINT).exists(),
            f"{self / FORMER_CHECKPOINT} is a pickle, made by version 0.1.0; resume the run with "
            "that version, or start again with --overwrite",
        )
        return self.checkpoints.load(show)


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
