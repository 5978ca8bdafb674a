r"""
---
title: The commands
summary: What train, generate, plot, benchmark and experiment do; their options.
---

# The commands

Each command is a dataclass. Its fields are its options, the text below a field is the help of the
option, and `main` is what the command does: there is no second list of options that could become
outdated. Each returns its exit code.
"""

import argparse
import contextlib
import sys
import textwrap
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from .benchmark.measure import RESULTS, Settings, benchmark
from .config import FAIR, ModelConfig
from .data.tokenizer import stored_tokenizer
from .experiments.catalog import EXPERIMENTS, Changes, describe, run
from .lm.language_model import architecture
from .lm.pretrained import find
from .support.checks import expect, require
from .support.trust import printable
from .training.distributed import choose_device, first
from .training.plot import Axis, plot_runs
from .training.runs import CHECKPOINT, PLOT, SAMPLE, Run
from .training.train import train
from .training.train_config import TrainConfig
from .training.trainer import SEEDS


def show(text: str) -> None:
    """
    Prints what a model wrote. A file or a program gets it as it is; a terminal gets no control
    characters, which it would obey.
    """
    print(printable(text) if sys.stdout.isatty() else text)


@dataclass(frozen=True)
class ModelOptions(ModelConfig):
    """The model. Its vocabulary is that of the data, so it is not an option."""

    vocab_size: tyro.conf.Suppress[int] = 65


Model = Annotated[ModelOptions, tyro.conf.arg(name="")]
Training = Annotated[TrainConfig, tyro.conf.arg(name="")]
Measured = Annotated[Settings, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class Train:
    """Train a Feedback Transformer on a text, and keep the run in a folder.

    With no options: Tiny Shakespeare, a few minutes on two CPU cores.
    Ctrl-C saves and stops; the same command with --resume continues."""

    training: Training = field(default_factory=TrainConfig)
    model: Model = field(default_factory=ModelOptions)
    preset: Literal["default", "fair", "enwik8"] = "default"
    """Settings to begin with; an option that is given wins over them. fair: --empty-memory zeros
    and --norm-memory, as in the code of the paper's authors. enwik8: their recipe for that text,
    for a GPU; with --accumulate 64 or more it needs less memory."""
    resume: bool = False
    """Continue from the last checkpoint of the run, with its settings."""
    overwrite: bool = False
    """Replace the run that the folder holds."""

    def model_config(self) -> ModelConfig:
        """The model."""
        return ModelConfig(**asdict(self.model))

    def main(self) -> int:
        """Trains and prints the result; after a signal returns 130, or what belongs to it."""
        require(not (self.resume and self.overwrite), "choose --resume or --overwrite, not both")
        trainer = train(self.model_config(), self.training, self.resume, self.overwrite)
        run = trainer.run
        if not first():
            return trainer.exit_code
        if trainer.exit_code:
            with contextlib.suppress(OSError):  # The terminal may be gone, as after SIGHUP.
                print(f"\nStopped after step {trainer.step}; saved in {run / CHECKPOINT}")
                print(f"To continue:  python -m feedback train --run {run.folder} --resume")
            return trainer.exit_code
        show(f"\n{(run / SAMPLE).read_text(encoding='utf-8').strip()}\n")
        if trainer.val_loss is not None:
            print(
                f"validation loss {trainer.val_loss:.4f} nats per {run.unit()}, "
                f"{trainer.bits_per_byte:.4f} bits per byte, after {trainer.seconds:.0f} s"
            )
        print(f"run     {run.folder}\nplot    {run / PLOT}")
        print(f"next    python -m feedback generate --run {run.folder}")
        return 0


PRESETS: dict[str | None, Train] = {
    "fair": Train(model=ModelOptions(**FAIR), preset="fair"),
    "enwik8": Train(
        TrainConfig(
            run=Path("runs/enwik8"), data="enwik8", tokenizer="bytes", segments="carried",
            batch_size=1024, seq_len=128, max_steps=100_000, learning_rate=1.5e-3,
            warmup_steps=8000, weight_decay=0.0, grad_clip=0.1, span_loss=5e-7,
            eval_steps=1000, checkpoint_steps=1000,
        ),
        ModelOptions(
            **FAIR, d_model=512, n_layers=12, n_heads=8, d_k=128, d_ff=4096, mem_len=8192,
            share_kv=False, activation="relu", dropout=0.5, adaptive_span=True, span_ramp=32,
        ),
        preset="enwik8",
    ),
}  # fmt: skip
"""
## Presets

`enwik8` has the authors' released settings, except where there is no option for them: here the
learning rate falls along a cosine after the warm-up, and the positions, learnt for each head of
each layer, are not shared, which makes most of the parameters.
"""


def preset(args: list[str]) -> Train:
    """The settings that `args` ask to begin with, known before the other options are read."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", nargs="?")
    return PRESETS.get(parser.parse_known_args(args)[0].preset, Train())


@dataclass(frozen=True)
class Generate:
    """Write text with a trained model.

    The text goes to standard output and begins with the prompt."""

    run: Path = TrainConfig.run
    """Folder of a training run, or the name of a model that comes with the package. If
    the default folder holds no run, the model tiny_shakespeare of the package is used."""
    prompt: str = "\n"
    """What the text begins with."""
    max_new_tokens: int = 500
    """Tokens to write: characters, unless the model was trained on others."""
    temperature: float = 0.8
    """0 always takes the likeliest token; 1 follows the model's probabilities."""
    top_k: int | None = None
    """Choose among the k likeliest tokens only."""
    top_p: float | None = None
    """Choose among the likeliest tokens that together reach this probability."""
    stop: str | None = None
    """A character at which to stop, or other text that is a single token."""
    samples: int = 1
    """Texts to write."""
    seed: int | None = None
    """The same seed writes the same text."""
    device: str = "auto"
    """auto takes a GPU if there is one; or cpu, cuda, ..."""

    def main(self) -> int:
        """Prints the samples."""
        require(len(self.prompt) > 0, "the prompt is empty, expected at least one character")
        expect(self.samples >= 1, "samples", self.samples, "at least 1")
        folder = find(self.run)
        if self.run == TrainConfig.run and Run(folder).is_empty():
            print(f"{folder} holds no run; using the package's tiny_shakespeare", file=sys.stderr)
            folder = find("tiny_shakespeare")
        stored = Run(folder).read()
        tokenizer, size = stored_tokenizer(stored, folder), ModelConfig.from_dict(stored).vocab_size
        require(
            len(tokenizer) == size,
            f"{folder} has a tokenizer of {len(tokenizer)} tokens, but a model of {size}; restore "
            "the one that it was trained with",
        )
        stop = None if self.stop is None else tokenizer.encode(self.stop)
        expect(stop is None or len(stop) == 1, "stop", self.stop, "text that is a single token")
        device = choose_device(self.device)
        prompt = tokenizer.encode(self.prompt)
        words = "text that is at least one token; give another --prompt"
        expect(len(prompt) > 0, "prompt", self.prompt, words)
        tokens = prompt.expand(self.samples, -1).to(device)
        generator = torch.Generator(device)
        if self.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.seed % SEEDS)
        model = architecture(stored).from_pretrained(folder).to(device)
        out = model.generate(
            tokens,
            self.max_new_tokens,
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            stop_token=None if stop is None else int(stop),
            generator=generator,
        )
        show("\n---\n".join(tokenizer.decode(row) for row in out))
        return 0


@dataclass(frozen=True)
class Plot:
    """Draw the training and validation loss of one run or several."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = (TrainConfig.run,)
    """Folders of training runs."""
    x: Axis = "tokens"
    """What the curves are drawn against."""
    out: Path | None = None
    """The picture, PNG; loss.png in the first folder if not given."""

    def main(self) -> int:
        """Writes the picture, and prints its path."""
        out = self.out or self.runs[0] / PLOT
        plot_runs(self.runs, out, self.x)
        print(out)
        return 0


@dataclass(frozen=True)
class Benchmark:
    """Measure training and decoding on this machine, against a Transformer and other people's code.

    Ten to forty minutes on two CPU cores; all contestants take turns in one process, and what is
    measured is written after each part."""

    settings: Measured = field(default_factory=Settings)
    out: Path = Path("runs/benchmark")
    """Folder for the numbers and the pictures."""
    overwrite: bool = False
    """Replace the benchmark that the folder holds."""

    def main(self) -> int:
        """Measures, and prints where the results are."""
        benchmark(self.settings, self.out, self.overwrite)
        plots = ", ".join(str(self.out / f"{part}.png") for part in self.settings.parts)
        print(f"\nnumbers {self.out / RESULTS}\nplots   {plots}")
        return 0


@dataclass(frozen=True)
class Experiments:
    """Train contestants on a task, and record how well each does at each length.

    What the record holds already is not run again, so the same command continues. Several
    processes, started by torchrun, share the contestants out."""

    name: tyro.conf.Positional[str] = "list"
    """Which experiment; list shows their names, and an example of each task."""
    seed: int = 1
    """Decides initial weights and sequences."""
    only: tuple[str, ...] = ()
    """Contestants, if not all of them."""
    tokens: int | None = None
    """A smaller budget than that of the experiment, to try it."""
    learning_rate: float | None = None
    """Another learning rate than the experiment has for its contestants."""
    out: Path = Path("runs/experiments")
    """Folder for the records, NAME.json, and the weights."""

    def main(self) -> int:
        """Runs one experiment, or describes all."""
        if self.name == "list":
            for name in EXPERIMENTS if first() else ():
                print(f"{name}\n\n{textwrap.indent(describe(name), '    ')}\n")
            return 0
        command = f"python -m feedback experiment {self.name} --seed {self.seed}"
        if self.only:
            command += f" --only {' '.join(self.only)}"
        if self.tokens is not None:
            command += f" --tokens {self.tokens}"
        if self.learning_rate is not None:
            command += f" --learning-rate {self.learning_rate}"
        changes = Changes(self.only, self.tokens, self.learning_rate)
        path = run(self.name, self.seed, changes, self.out, command)
        if first():
            print(path)
        return 0


Command = Train | Generate | Plot | Benchmark | Experiments
"""What the command line can ask for."""
