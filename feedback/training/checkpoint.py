r"""
---
title: Checkpoints
summary: All that a run needs to go on, in files that vouch for every one of their bytes.
---

# Checkpoints

How would you notice that one bit of a checkpoint has changed on the disk? The file opens, the
shapes fit, the loss may even look as it did. Only the claim that a resumed run equals the
uninterrupted one has quietly become false.

So each checkpoint carries the SHA-256 of all its bytes (with zeros in the place of the hash), and
nothing in it is looked at before that agrees. It is one file, written whole or not at all, and the
one before it stays: should the newest be damaged, the run goes on from there.

The file is in the format of safetensors, which holds tensors and a little text, here JSON, and
cannot run code when it is opened. Its tensors are called `model.`, `exp_avg.`, `exp_avg_sq.` and
`step.` with the name of a parameter behind it, and `memory`.
"""

import hashlib
import json
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from ..lm.pretrained import load_weights
from ..support.checks import require, require_kinds
from ..support.files import remove_leftovers, write_whole
from .sharded import divide

KEPT = 2
"""How many checkpoints stay: the newest, and what to take if it is damaged."""

MOMENTS = ("exp_avg", "exp_avg_sq")
"""What AdamW keeps for each parameter, besides the number of its steps."""

HASH = re.compile(rb'"sha256":"([0-9a-f]{64})"')
BLANK = b"0" * 64


@dataclass(frozen=True)
class Progress:
    """
    ## How far the run has come

    `val_loss` is the last validation loss and `val_step` its step; `digest` is that of the text.
    """

    step: int
    seconds: float
    val_loss: float | None
    val_step: int
    digest: str

    def __post_init__(self) -> None:
        require_kinds(self)
        require(self.step >= 0, f"step is {self.step}, expected at least 0")
        require(0 <= self.val_step <= self.step, f"val_step is {self.val_step}")


@dataclass(frozen=True)
class Checkpoint:
    """Numbers and tensors, as they are in one file."""

    progress: Progress
    tensors: dict[str, Tensor]

    def to_bytes(self) -> bytes:
        """The file: safetensors, whose metadata are the progress and the hash of all the rest."""
        own = {"progress": json.dumps(asdict(self.progress)), "sha256": BLANK.decode()}
        data = save({k: t.detach().cpu().contiguous() for k, t in self.tensors.items()}, own)
        place = HASH.search(data)
        assert place is not None
        digest = hashlib.sha256(data).hexdigest().encode()
        return b"".join((data[: place.start(1)], digest, data[place.end(1) :]))

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """The inverse; raises `ValueError` if a single bit is not as it was written."""
        place = HASH.search(data)
        require(place is not None, "no checkpoint")
        assert place is not None
        whole, found = memoryview(data), hashlib.sha256()
        for part in (whole[: place.start(1)], BLANK, whole[place.end(1) :]):
            found.update(part)
        require(found.hexdigest().encode() == place[1], "its SHA-256 is another")
        try:
            # The first eight bytes say how long the header is.
            header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            progress = Progress(**json.loads(header["__metadata__"]["progress"]))
            return cls(progress, load(data))
        except (SafetensorError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"not written by this program: {error}") from error

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin with `name` and a dot, without that."""
        start = f"{name}."
        return {k.removeprefix(start): t for k, t in self.tensors.items() if k.startswith(start)}


@dataclass(frozen=True)
class Checkpoints:
    """
    ## The last few of a run

    In `folder`, each named by its step.
    """

    folder: Path

    def path(self, step: int) -> Path:
        """The file of a step."""
        return self.folder / f"step_{step:08d}.safetensors"

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, newest first."""
        names = (
            re.fullmatch(r"step_(\d{8,15})", p.stem) for p in self.folder.glob("*.safetensors")
        )
        return sorted((int(name[1]) for name in names if name), reverse=True)

    def save(self, checkpoint: Checkpoint) -> None:
        """Writes it, completely or not at all; then removes those that are not kept."""
        step = checkpoint.progress.step
        write_whole(self.path(step), checkpoint.to_bytes())
        # One of a later step was damaged, or this step would not have been taken again.
        good = [other for other in self.steps() if other <= step][:KEPT]
        for other in set(self.steps()) - set(good):
            self.path(other).unlink(missing_ok=True)

    def load(self, show: Callable[[str], None]) -> Checkpoint:
        """
        The newest that is whole; tells `show` of each that is not. Raises `ValueError` if there is
        none.
        """
        steps = self.steps()
        for step in steps:
            path = self.path(step)
            try:
                checkpoint = Checkpoint.from_bytes(path.read_bytes())
                require(checkpoint.progress.step == step, "its name is that of another step")
                return checkpoint
            except ValueError as error:
                show(f"{path} is damaged ({error}); looking for the checkpoint before it")
        words = "every checkpoint is damaged" if steps else "there is no checkpoint"
        raise ValueError(f"{self.folder}: {words} to resume from; start again with --overwrite")

    def clear(self, all: bool = False) -> None:
        """Removes what a killed process left half-written, or everything."""
        remove_leftovers(self.folder, "step_*.safetensors")
        if all:
            for step in self.steps():
                self.path(step).unlink(missing_ok=True)
        with suppress(OSError):  # Somebody else's file may be in it, or it is not there.
            self.folder.rmdir()


def state_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """
    ## The state of a run

    The weights, and what AdamW keeps: nothing before the first step. Everything else about the
    optimiser follows from the settings.
    """
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    for name, p in model.named_parameters():
        for key, tensor in optimizer.state.get(p, {}).items():
            tensors[f"{key}.{name}"] = tensor
    return tensors


def restore(
    model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, origin: str
) -> None:
    """
    The inverse of `state_tensors`. Raises a `ValueError` that names what does not fit, `origin`
    being where it comes from.
    """
    weights, own = checkpoint.part("model"), model.state_dict()
    for name in own.keys() & weights.keys():
        if own[name].shape == weights[name].shape:  # Other shapes have an error of their own.
            require_like(weights[name], own[name], name, origin)
    weights = {name: divide(weight, own.get(name)) for name, weight in weights.items()}
    load_weights(model, weights, origin)
    load_optimizer(model, optimizer, checkpoint, origin)


def load_optimizer(
    model: nn.Module, optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, origin: str
) -> None:
    """
    The fused optimiser trusts what it is given, and reads and writes memory at will
    if a shape is wrong; so before it gets anything, all is checked, and `ValueError` names what
    does not fit.
    """
    names = {id(p): name for name, p in model.named_parameters()}
    state: dict[int, dict[str, Tensor]] = {}
    last = checkpoint.progress.step
    parts: dict[str, dict[str, Tensor]] = {k: checkpoint.part(k) for k in ("step", *MOMENTS)}
    for key, part in parts.items():
        for name in part.keys() ^ parts["step"].keys():
            raise ValueError(f"{origin} has only a part of the optimiser's state of {name}: {key}")
        for name in part.keys() - set(names.values()):
            raise ValueError(f"{origin} has the optimiser's state of {name}, not in this model")
    for number, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
        name = names[id(p)]
        if name not in parts["step"]:
            continue
        for key in MOMENTS:
            require_like(parts[key][name], p, f"{key}.{name}", origin)
        steps = parts["step"][name]
        require_like(steps, torch.zeros((), dtype=torch.float32), f"step.{name}", origin)
        taken = steps.item()
        require(
            0 <= taken <= last and taken == int(taken),
            f"{origin} has step.{name} = {taken}, expected a whole number from 0 to {last}",
        )
        moments = {key: divide(parts[key][name], p) for key in MOMENTS}
        state[number] = {"step": steps, **moments}
    require(
        bool(state) == (last > 0),
        f"{origin} is of step {last} and has the optimiser's state of {len(state)} parameters; it "
        "was not made by a run",
    )
    groups = optimizer.state_dict()["param_groups"]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def require_like(tensor: Tensor, like: Tensor, name: str, origin: str) -> None:
    """Raises `ValueError` unless a tensor has the shape and the type of another."""
    found, expected = ((tuple(t.shape), t.dtype) for t in (tensor, like))
    require(
        found == expected,
        f"{origin} has {name} of shape {found[0]} and type {found[1]}, expected {expected[0]} and "
        f"{expected[1]}; it is from another model",
    )


def require_memory(m: Tensor, expected: tuple[int, ...], origin: str) -> None:
    """
    Raises `ValueError` unless a memory can go on in this run: of the shape `expected`, where its
    number of slots, the last but one, may be smaller.
    """
    shape = tuple(m.shape)
    good = len(shape) == len(expected) and 0 < shape[-2] <= expected[-2]
    good = good and shape[:-2] + shape[-1:] == expected[:-2] + expected[-1:]
    require(
        good and m.dtype.is_floating_point and bool(m.isfinite().all()),
        f"{origin} has a memory of shape {shape} and type {m.dtype}, expected finite numbers of "
        f"shape {expected}, or with fewer slots; it is from another run",
    )
