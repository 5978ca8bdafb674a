r"""
---
title: The command line
summary: python -m feedback train, generate, plot, benchmark, experiment.
---

# The command line

```
python -m feedback train                       # Tiny Shakespeare, a few minutes on a laptop
torchrun --nproc-per-node=4 -m -- feedback train   # the same, by four processes
python -m feedback generate --prompt "ROMEO:"  # what it has learnt to write
python -m feedback plot runs/a runs/b          # two runs in one picture
python -m feedback benchmark                   # speed on this machine, next to others
python -m feedback experiment a5               # what feedback is worth, next to others
```

The options are the fields of the [commands](commands.py). tyro makes the parser.

A mistake gives one line, which says what was wrong and what would be right, and exit code 2.
"""

import contextlib
import io
import re
import sys
import warnings
from dataclasses import replace
from typing import Annotated

import tyro

from .commands import (
    Benchmark,
    Command,
    Experiments,
    Generate,
    ModelOptions,
    Plot,
    Train,
    preset,
)
from .data.tokenizer import TOKENIZER
from .support.checks import require
from .support.interrupt import StopNow
from .support.trust import printable
from .training.distributed import joined
from .training.runs import Run
from .training.train_config import TrainConfig

DESCRIPTION = "The Feedback Transformer: train it, let it write, look at its runs."


def first_paragraph(box: str) -> str:
    """The message in tyro's box: from its title to the next rule or empty line, as one line."""
    lines = [line.strip("╭╮╰╯│ ") for line in box.strip().splitlines()]
    # A line that begins with an option, --out, is no rule.
    rules = [i for i, line in enumerate(lines) if re.match("─|-{3}|$", line) and i != 1]
    rules.append(len(lines))
    # In a box drawn for a terminal the title is part of the first rule; in plain text it has a line
    # of its own, with a rule below.
    start, end = (1, rules[1]) if rules[0] == 0 else (2, rules[0])
    return " ".join(lines[start:end])


def check_arguments(args: list[str]) -> None:
    """Raises `ValueError` for an option with an empty value: no path, number or list is empty."""
    for argument, after in zip(args, [*args[1:], "--"], strict=False):
        nobody = argument == "--only" and after.startswith("--")
        require(not nobody, "--only is empty, expected a contestant; leave it out for all")
    for before, argument in zip(["", *args], args, strict=False):
        empty = argument == "" and before != "--prompt"  # An empty prompt has its own message.
        name = before if argument == "" else argument.rstrip("=")
        require(
            not (empty or re.fullmatch(r"--[\w-]+=", argument)),
            f"{name or 'an argument'} is empty, expected a value; leave it out for the default",
        )


def parse(args: list[str], train: Train | None = None) -> Command:
    """
    The command that `args` describe, with the values of `train`, or of the preset, as the defaults
    for training. Raises `ValueError` for a mistake. tyro explains a mistake in a box on standard
    error; the first paragraph of that box becomes the one line of the error.
    """
    commands = (
        Annotated[Train, tyro.conf.subcommand("train", default=train or preset(args))]
        | Annotated[Generate, tyro.conf.subcommand("generate")]
        | Annotated[Plot, tyro.conf.subcommand("plot")]
        | Annotated[Benchmark, tyro.conf.subcommand("benchmark")]
        | Annotated[Experiments, tyro.conf.subcommand("experiment")]
    )
    check_arguments(args)
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            command = tyro.cli(commands, prog="feedback", description=DESCRIPTION, args=args)
    except SystemExit as exit:
        if exit.code != 2:
            raise
        raise ValueError(f"{first_paragraph(box.getvalue())}; see --help") from None
    if isinstance(command, Train) and command.resume and train is None:
        # A resumed run has the settings it began with, unless an option says otherwise.
        stored = Run(command.training.run).read()
        training = TrainConfig.from_dict(stored.get("train", {}))
        # The folder may be a copy; what it says about its place is where the original was. And how
        # many processes there are, and what they divide, is a matter of each command.
        training = replace(training, run=command.training.run, sharded=False)
        copy = command.training.run / TOKENIZER
        if stored.get("tokenizer") == TOKENIZER and copy.is_file():
            # The file that the run began with may have moved.
            training = replace(training, tokenizer=str(copy))
        return parse(args, Train(training, ModelOptions.from_dict(stored)))
    return command


NO_MEMORY = re.compile(
    "not enough memory|can't allocate memory|out of memory|bad_alloc|storage size"
)
"""What PyTorch says if there is none left, or if a tensor would be larger than any memory."""


def say(text: str) -> None:
    """Prints one line on standard error."""
    print(f"feedback: {printable(' '.join(text.split()))}", file=sys.stderr)


def reason(error: Exception) -> str:
    """Why a command fails, for its user; an error that is not for users is raised again."""
    if isinstance(error, OSError) and error.strerror is not None:
        return ": ".join(str(part) for part in (error.strerror, error.filename) if part)
    if isinstance(error, (ValueError, OSError)):
        return str(error)
    if not isinstance(error, MemoryError) and not NO_MEMORY.search(str(error)):
        raise error
    return "there is not enough memory for this; make the model, the batch or the text smaller"


def main(args: list[str] | None = None) -> int:
    """
    Runs a command and returns its exit code: 0, 2 after a mistake, 130 after Ctrl-C, 143 after
    SIGTERM, 129 after SIGHUP. Of several processes that end together one says why.
    """
    with joined() as first_to_tell:
        try:
            with warnings.catch_warnings():
                warnings.showwarning = lambda message, *_, **__: say(str(message))
                return parse(sys.argv[1:] if args is None else args).main()
        except (ValueError, OSError, RuntimeError, MemoryError) as error:
            text = reason(error)
            if first_to_tell():
                say(text)
            return 2
        except KeyboardInterrupt as stop:
            with contextlib.suppress(OSError):
                if first_to_tell():
                    print("feedback: stopped", file=sys.stderr)
            return stop.args[0] if isinstance(stop, StopNow) else 130


if __name__ == "__main__":
    sys.exit(main())
