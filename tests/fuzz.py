"""
Damaged inputs, by the thousand: python tests/fuzz.py --number 10000 [--only SURFACE] [--seed N]

An input that works is damaged at random, in its bytes or in its values, and read. It may still be
accepted. Otherwise it must be refused as a mistake is: by a `ValueError`, or on the command line by
exit code 2 and one line. Anything else is a failure, printed with the seed that repeats it: another
exception, a process without end, memory without bounds.

| surface | is |
|---|---|
| `config` | `config.json`, until a model is made of it |
| `weights` | `model.safetensors` |
| `metrics` | `metrics.jsonl` |
| `checkpoint` | what a run is resumed from |
| `notebooks` | an edited notebook on its way back, and its outputs on their way to a page |
| `catalogues` | a translation |
| `text` | what is trained on, as characters and as bytes |
| `arguments` | the command line, until it would begin to train or to measure |
"""

import argparse
import contextlib
import hashlib
import io
import json
import random
import re
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

import feedback
from docs.annotate import notebook, outputs, pull
from docs.annotate.locale import Catalogue
from docs.annotate.settings import Settings
from feedback import FeedbackLM, ModelConfig, TrainConfig, commands
from feedback.__main__ import main as command_line
from feedback.data.text import load_corpus
from feedback.data.tokenizer import stored_tokenizer
from feedback.support import checks
from feedback.training import runs, trainer
from feedback.training.checkpoint import BLANK, HASH, Checkpoint, restore

ROOT = Path(__file__).parent.parent
SECONDS, MEMORY = 60, 2**25
"""How long reading one input may take; and the memory that the machine is said to have."""

MODEL = ModelConfig(vocab_size=9, d_model=8, n_layers=2, n_heads=2, d_ff=8, mem_len=4)
TEXT = "the cat sat on the mat, naïve 日本\n" * 40

HOSTILE: list[Any] = [
    *(None, True, False, 0, 1, -1, 2**31, 2**63, 2**64, -(2**63), 10**14, 10**399, 1.5, -0.0),
    *(1e308, 5e-324, 1e-46, float("inf"), float("nan"), "", " ", "a" * 5000, "\x1b]0;x\x07", "\0"),
    *([], {}, [[]], [1], {"a": 1}, "\ud800", "../../x", "~nosuchuser/x", "/dev/zero", "relu"),
]
"""Values that nobody expects in their place."""

PIECES = [b"\0", b"\xff", b"\x1b[2J", b"{", b"[" * 3000, b'"', b"\n", b"9" * 400, b"1e999",
          b"\\u0000", b"\xef\xbb\xbf", b"-", b"msgid ", b"NaN", b"\xf0\x9f\x98\x80"]  # fmt: skip


class TookTooLong(BaseException):
    """The time for one input is over; no `except Exception` stops it."""


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Up to four changes: a bit flipped, bytes removed, repeated, put in, or the end cut off."""
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 4, 40))
        kind, end = rng.randrange(5), at + length
        if kind == 0 and at < len(data):
            data = data[:at] + bytes([data[at] ^ (1 << rng.randrange(8))]) + data[at + 1 :]
        elif kind == 1:
            data = data[:at] + data[end:]
        elif kind == 2:
            data = data[:end] + data[at:]
        elif kind == 3:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        elif rng.random() < 0.3:
            data = data[:at]
    return data


def changed(value: Any, rng: random.Random) -> Any:
    """The value with something hostile in place of a part of it."""
    if isinstance(value, dict | list) and value and rng.random() < 0.9:
        copy: Any = value.copy()
        key = rng.choice(list(value)) if isinstance(value, dict) else rng.randrange(len(value))
        copy[key] = changed(value[key], rng)
        return copy
    return rng.choice(HOSTILE)


def damaged_json(value: Any, rng: random.Random) -> bytes:
    """JSON of which values or bytes were changed."""
    for _ in range(rng.randint(1, 2)):
        value = changed(value, rng)
    data = json.dumps(value).encode()
    return damaged(data, rng) if rng.random() < 0.4 else data


class Surfaces:
    """One method for each surface: damages its input and reads it."""

    def __init__(self, folder: Path):
        self.folder, self.run = folder, runs.Run(folder / "run")
        model = FeedbackLM(MODEL)
        train = TrainConfig(run=self.run.folder, max_steps=3).to_dict()
        model.save_pretrained(
            self.run.folder,
            extra={"train": train, "tokenizer": "characters", "characters": TEXT[:0]},
        )
        self.values = json.loads((self.run / runs.CONFIG).read_text())
        self.values["characters"] = "".join(sorted(set("\nacehmost")))
        (self.run / runs.CONFIG).write_text(json.dumps(self.values))
        self.weights = (self.run / runs.WEIGHTS).read_bytes()
        self.optimizer = torch.optim.AdamW(model.parameters())
        model(torch.zeros(2, 3, dtype=torch.long))[0].sum().backward()
        self.optimizer.step()
        self.model = model
        tensors = trainer.state_tensors(model, self.optimizer)
        progress = trainer.Progress(step=1, seconds=0.1, val_loss=None, val_step=0, digest="a")
        self.state = Checkpoint(progress, tensors).to_bytes()
        (folder / "text.txt").write_text(TEXT, encoding="utf-8")
        self.settings = self.pages()

    def pages(self) -> Settings:
        """A repository with one small notebook, which has a text and a picture."""
        for path in ("notebooks/src", "docs/locale/si/LC_MESSAGES", "feedback"):
            (self.folder / path).mkdir(parents=True)
        (self.folder / "pyproject.toml").write_text(Path(ROOT / "pyproject.toml").read_text())
        (self.folder / "feedback/__init__.py").write_text('__version__ = "0.1.0"\n')
        source = "# # Title\n#\n# Words.\n\nprint(1)\n\n# More words.\n\nx = 2\n"
        (self.folder / "notebooks/src/a.py").write_text(source)
        settings = Settings.read(self.folder)
        made = notebook.new(settings, "a", notebook.read_source(settings, "a"))
        picture = {"image/png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAAB"}
        made.cells[-1].outputs = [
            {"output_type": "stream", "name": "stdout", "text": "1"},
            {"output_type": "display_data", "data": picture,
             "metadata": {"image/png": {"alt": "a", "caption": "b"}}},
        ]  # fmt: skip
        self.notebook = json.loads(json.dumps(made))
        return settings

    def config(self, rng: random.Random) -> None:
        """The run, its tokenizer, its model."""
        (self.run / runs.CONFIG).write_bytes(damaged_json(self.values, rng))
        values = self.run.read()
        stored_tokenizer(values, self.run.folder)
        commands.architecture(values)(ModelConfig.from_dict(values))

    def weights_(self, rng: random.Random) -> None:
        """Loaded, and used."""
        (self.run / runs.CONFIG).write_text(json.dumps(self.values))
        (self.run / runs.WEIGHTS).write_bytes(damaged(self.weights, rng))
        model = FeedbackLM.from_pretrained(self.run.folder)
        model.generate(torch.zeros(1, 2, dtype=torch.long), 3)

    def metrics(self, rng: random.Random) -> None:
        """As a picture of the run or a resumed run reads them."""
        row: dict[str, Any] = dict.fromkeys(runs.METRIC_KEYS, 0.5)
        lines = [json.dumps({**row, "step": n}).encode() for n in range(1, 5)]
        if rng.random() < 0.5:
            lines[rng.randrange(4)] = damaged_json(row, rng)
        data = b"\n".join([*lines, b""])
        (self.run / runs.METRICS).write_bytes(damaged(data, rng))
        self.run.metrics()
        self.run.metrics_until(3)

    def checkpoint(self, rng: random.Random) -> None:
        """Half of them with the hash of what is there, as if they had been made like that."""
        data = damaged(self.state, rng)
        place = HASH.search(data)
        if place and rng.random() < 0.5:
            blank = data[: place.start(1)] + BLANK + data[place.end(1) :]
            digest = hashlib.sha256(blank).hexdigest().encode()
            data = data[: place.start(1)] + digest + data[place.end(1) :]
        restore(self.model, self.optimizer, Checkpoint.from_bytes(data), "the checkpoint")

    def notebooks(self, rng: random.Random) -> None:
        """Read, pulled back, shown."""
        path = self.folder / notebook.notebook_path("a")
        path.write_bytes(damaged_json(self.notebook, rng))
        stored = notebook.read(self.settings, "a")
        for cell in stored.cells:
            outputs.render_outputs([cell.get("outputs", [])], "", "x")
        notebook.foreign("a", stored)
        pull.walkthrough_of(self.settings, "a", force=True)

    def catalogues(self, rng: random.Random) -> None:
        """Read, asked, brought up to date and written."""
        path = self.folder / "docs/locale/si/LC_MESSAGES/a.po"
        text = b'msgid ""\nmsgstr "Language: si\\n"\n\n#, fuzzy\nmsgctxt "title"\nmsgid "A"\n'
        path.write_bytes(damaged(text + b'msgstr "B"\n', rng))
        catalogue = Catalogue.read(self.settings, path)
        catalogue.get("title", "A")
        catalogue.coverage()
        catalogue.update([("title", "A"), ("a", "C")])
        str(catalogue.file)
        catalogue.check([("title", "A"), ("a", "C")])

    def text(self, rng: random.Random) -> None:
        """Numbered and back."""
        path = self.folder / "damaged.txt"
        path.write_bytes(damaged(TEXT.encode(), rng))
        for name in ("bytes", "characters"):
            tokenizer, corpus = load_corpus(str(path), name)
            tokenizer.decode(corpus.val)

    def arguments(self, rng: random.Random) -> None:
        """A command with values that nobody means; `main` says what it does with them."""
        words = rng.choice(COMMANDS).format(folder=self.folder).split()
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(1, len(words) + 1)
            value = rng.choice([*map(plain, HOSTILE), *OPTIONS])
            words[at : at + rng.randrange(2)] = [value]
        said = io.StringIO()
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            try:
                code = command_line(words)
            except SystemExit as exit:
                code = int(exit.code or 0)
        lines = said.getvalue().splitlines()
        if code == 2 and sum(line.startswith("feedback: ") for line in lines) == 1:
            raise ValueError(lines[-1])
        assert code == 0, (code, said.getvalue()[:500])


COMMANDS = [
    "train --data {folder}/text.txt --run {folder}/new --d-model 8 --n-layers 1 --n-heads 2",
    "train --run {folder}/new --data {folder}/text.txt --seq-len 4 --batch-size 2",
    "generate --run {folder}/run --prompt a --max-new-tokens 3 --temperature 1 --top-p 0.5",
    "plot {folder}/run --x seconds --out {folder}/x.png",
]
FIELDS = [*TrainConfig.__annotations__, *ModelConfig.__annotations__, "top_k", "help", "resume"]
OPTIONS = [f"--{name.replace('_', '-')}" for name in FIELDS]


def plain(value: Any) -> str:
    """A value as a word of a command line, where the system allows no zero bytes."""
    return re.sub("[\0\ud800]", "", str(value))


NAMES = ("config", "weights", "metrics", "checkpoint", "notebooks", "catalogues", "text",
         "arguments")  # fmt: skip


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """No input may take more than `SECONDS`, or 4 GiB more than is in use; nothing is trained."""

    def stop(number: int, frame: Any) -> None:
        raise TookTooLong

    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGALRM, stop)
    memory, train = checks.machine_memory, commands.train
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**32, before[1]))
    checks.machine_memory = lambda: MEMORY

    def begin(model: ModelConfig, config: TrainConfig, *_: Any) -> Any:
        trainer.Trainer(model, config)
        raise ValueError("it would train")

    commands.train = begin
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        checks.machine_memory, commands.train = memory, train
        resource.setrlimit(resource.RLIMIT_AS, before)
        signal.signal(signal.SIGALRM, handler)


def attempt(read: Callable[[random.Random], None], seed: str) -> tuple[str, str]:
    """How one input was received, and, for a failure, what happened."""
    signal.alarm(SECONDS)
    try:
        read(random.Random(seed))
        return "accepted", ""
    except ValueError as error:
        return "refused", str(error)
    except (Exception, TookTooLong) as error:
        return "failed", f"{type(error).__name__}: {str(error)[:300]}"
    finally:
        signal.alarm(0)


def fuzz(name: str, number: int, seed: int = 0) -> tuple[dict[str, int], list[str]]:
    """The outcomes of so many damaged inputs, and a line for each failure."""
    outcomes, failures = Counter(dict.fromkeys(("accepted", "refused", "failed"), 0)), []
    with tempfile.TemporaryDirectory() as folder, limits():
        surfaces = Surfaces(Path(folder))
        read = getattr(surfaces, "weights_" if name == "weights" else name)
        for n in range(seed, seed + number):
            outcome, what = attempt(read, f"{name} {n}")
            outcomes[outcome] += 1
            if outcome == "failed":
                failures.append(f"{name}, --seed {n}: {what}")
                print(failures[-1], flush=True)
    return dict(outcomes), failures


def main() -> int:
    """Prints the outcomes, and, with --out, adds them to a record; 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--number", type=int, default=1000, help="of inputs for each surface")
    parser.add_argument("--only", choices=NAMES, action="append", help="a surface; repeatable")
    parser.add_argument("--seed", type=int, default=0, help="of the first input")
    parser.add_argument("--out", type=Path, help="a record, JSON")
    options = parser.parse_args()
    torch.manual_seed(0)
    failed = False
    for name in options.only or NAMES:
        begun = time.perf_counter()
        outcomes, failures = fuzz(name, options.number, options.seed)
        failed |= bool(failures)
        print(f"{name}: {outcomes}, {time.perf_counter() - begun:.0f} s", flush=True)
        if options.out is not None:
            record = json.loads(options.out.read_text()) if options.out.exists() else {}
            command = f"python tests/fuzz.py --number {options.number} --only {name}"
            surfaces = record.setdefault("surfaces", {})
            surfaces[name] = {"command": f"{command} --seed {options.seed}", **outcomes}
            record["versions"] = {"feedback": feedback.__version__, "torch": torch.__version__}
            options.out.write_text(json.dumps(record, indent=2) + "\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
