r"""
---
title: The benchmark
summary: Time, memory and decoding, side by side with the strongest Transformer and the peers.
---

# The benchmark

What does feedback cost on *this* machine? A number from somebody else's machine says little,
and so does a number from an hour ago: clock speeds change, and other programs come and go. So all
contestants run in one process and take turns, round after round, and noise affects all of them
alike. The result is the median, with the quartiles around it. Slow contestants get fewer turns, but
at least three, spread evenly over the rounds. Taking turns does not help on a machine that is busy
all the time: threads that wait for a core wait at every operation, so contestants with many small
operations wait most. So the load before the start is recorded, and a high load gives a warning.

The unit is the time of the fastest parallel Transformer among the `contestants`.

1. **train**: forward, cross-entropy and backward, from tokens to gradients. Old gradients
   are cleared before the clock starts; there is no optimiser.
2. **growth**: how the ratio depends on the length $T$, the batch $B$ and the layers $L$.
3. **decode**: tokens per second when a text is written from one token, by argmax, each contestant
   with its own cache; `mem_len` is the length of the text. Also the bytes by which a cache grows
   with each token, $2HK$ numbers against $2LHK$.

Peak memory is that of the first training step of a new model: the largest sum of all tensors
allocated since the step began and not yet freed, gradients included. So the parameters and the
batch are not in it, and neither is what libraries allocate behind PyTorch's back. On a CPU the
sum is taken over the profiler's list of allocations, on a GPU it is the allocator's own.
"""

import itertools
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import nn

from ..fast.compiled import missing, processor
from ..model import IMPLEMENTATIONS, Implementation
from ..support.checks import expect, require
from ..support.files import write_whole
from ..training.distributed import choose_device
from .contestants import (
    FUSED,
    PEERS,
    RIVAL,
    TRANSFORMER,
    Contestant,
    FusedTransformer,
    Logits,
    Size,
    feedback,
    installed,
)
from .report import TABLES, draw

RESULTS = "benchmark.json"


Part = Literal["train", "growth", "decode"]
ConfigName = Literal["d128", "d256", "d512", "long"]
SIZES = {
    "d128": Size(128, 4, 4, 64, 32),
    "d256": Size(256, 4, 4, 128, 32),
    "d512": Size(512, 6, 8, 64, 16),
    "long": Size(128, 4, 4, 512, 8),
}


@dataclass(frozen=True)
class Settings:
    """
    ## What is measured

    The options of the command line. Raises `ValueError` for a value that makes no sense.
    """

    rounds: int = 10
    """Turns of each contestant; slow contestants get fewer, but at least 3."""
    parts: tuple[Part, ...] = ("train", "growth", "decode")
    """What to measure."""
    configs: tuple[ConfigName, ...] = ("d128", "d256", "d512", "long")
    """Configurations of the training step; growth and decoding start from d128."""
    implementations: tuple[Implementation, ...] = tuple(IMPLEMENTATIONS)
    """Implementations of the Feedback Transformer to compare."""
    quick: bool = False
    """Tiny sizes: a smoke test, whose numbers mean nothing."""
    device: str = "auto"
    """auto takes a GPU if there is one; or cpu, cuda, ..."""

    def __post_init__(self) -> None:
        expect(self.rounds >= 1, "rounds", self.rounds, "at least 1")
        for name in ("parts", "configs", "implementations"):
            require(len(getattr(self, name)) > 0, f"{name} is empty, expected at least one")

    def size(self, name: str) -> Size:
        """The configuration of that name."""
        return SIZES[name].tiny() if self.quick else SIZES[name]

    def growth(self) -> dict[str, tuple[int, ...]]:
        """What grows, and the values it takes."""
        if self.quick:
            return {"T": (2, 4), "B": (1, 2), "L": (1, 2)}
        return {"T": (64, 128, 256, 512, 1024), "B": (1, 4, 16, 32, 64), "L": (1, 2, 4, 8, 12)}

    def decoding(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Lengths and batch sizes."""
        return ((2, 4), (1, 2)) if self.quick else ((64, 256, 1024, 4096), (1, 16))


def peak_memory(step: Callable[[], object], device: torch.device) -> int:
    """Bytes: the largest sum of what `step` has allocated and not yet freed."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    # Otherwise the profiler reports on standard error when it starts and stops.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    with torch.autograd.profiler.profile(profile_memory=True) as profile:
        step()
    events = [event for event in profile.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(itertools.accumulate(event.nbytes() for event in events), default=0)


@dataclass
class Entry:
    """
    ## One contestant in one race

    `prepare` builds the contestant and returns two functions: the step that is timed, and one that
    clears up before that step.
    """

    contestant: Contestant
    prepare: Callable[[], tuple[Callable[[], object], Callable[[], object]]]
    device: torch.device
    seconds: list[float] = field(default_factory=list)
    peak: int | None = None
    error: str | None = None

    @contextmanager
    def guard(self) -> Iterator[None]:
        """Turns the failure of a peer into a result."""
        try:
            yield
        except Exception as error:
            if self.contestant.kind != "peer":
                raise
            self.error = f"{type(error).__name__}: {error}"

    def begin(self, count_memory: bool) -> float:
        """Builds the contestant and takes one step to warm up; returns the seconds of that step."""
        start = time.perf_counter()
        with self.guard():
            self.step, self.clear = self.prepare()
            start = time.perf_counter()
            if count_memory:
                self.peak = peak_memory(self.step, self.device)
            else:
                self.step()
        return time.perf_counter() - start

    def turn(self) -> None:
        """One timed step."""
        with self.guard():
            self.clear()
            self.synchronize()
            start = time.perf_counter()
            self.step()
            self.synchronize()
            self.seconds.append(time.perf_counter() - start)

    def synchronize(self) -> None:
        """Waits for a GPU."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def is_due(i: int, turns: int, rounds: int) -> bool:
    """Whether a contestant that has `turns` turns in `rounds` rounds has one in round `i`."""
    return (i + 1) * turns // rounds > i * turns // rounds


def race(
    title: str, entries: Sequence[Entry], rounds: int, budget: float, count_memory: bool = True
) -> dict[str, dict[str, Any]]:
    """
    ## A race

    All contestants warm up; then the rounds begin. A contestant has as many turns as fit into
    `budget` seconds, but at least 3, and at most `rounds`. Returns a row for each contestant.
    """
    turns = []
    for entry in entries:
        first = entry.begin(count_memory)
        turns.append(min(rounds, max(3, int(budget / max(first, 1e-9)))))
        print(f"{title}: {entry.contestant.name}, {first:.2f} s", file=sys.stderr)
    for i in range(rounds):
        for entry, mine in zip(entries, turns, strict=True):
            if entry.error is None and is_due(i, mine, rounds):
                entry.turn()
    rows = {entry.contestant.name: summarise(entry.seconds) for entry in entries}
    for entry in entries:
        rows[entry.contestant.name] |= {
            "kind": entry.contestant.kind, "peak_bytes": entry.peak, "error": entry.error
        }  # fmt: skip
    return add_ratios(rows)


def summarise(seconds: list[float]) -> dict[str, Any]:
    """The raw times, the median and the quartiles; without times the last two are `None`."""
    low = median = high = None
    if seconds:
        # A single time is its own quartile.
        quarters = statistics.quantiles(seconds * (1 + (len(seconds) == 1)), method="inclusive")
        low, median, high = quarters
    return {"seconds": seconds, "median": median, "quartiles": [low, high]}


def add_ratios(rows: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Adds to each row its median divided by the smallest median of a parallel Transformer."""
    unit = min(row["median"] for row in rows.values() if row["kind"] == "parallel")
    for row in rows.values():
        row["ratio"] = None if row["median"] is None else row["median"] / unit
    return rows


def training(contestant: Contestant, size: Size, device: torch.device) -> Entry:
    """A training step, on random tokens."""

    def prepare() -> tuple[Callable[[], object], Callable[[], object]]:
        torch.manual_seed(0)
        config = size.config()
        model = contestant.build(config).to(device)
        tokens, targets = torch.randint(config.vocab_size, (2, size.B, size.T), device=device)

        def step() -> None:
            F.cross_entropy(model(tokens).flatten(0, 1), targets.flatten()).backward()

        return step, model.zero_grad

    return Entry(contestant, prepare, device)


def decoding(contestant: Contestant, size: Size, device: torch.device) -> Entry:
    """Writing `size.T` tokens, starting from one."""

    def prepare() -> tuple[Callable[[], object], Callable[[], object]]:
        torch.manual_seed(0)
        model = bare(contestant.build(size.config())).to(device).eval()
        prompt = torch.zeros(size.B, 1, dtype=torch.int64, device=device)
        return lambda: model.generate(prompt, size.T, temperature=0), lambda: None

    return Entry(contestant, prepare, device)


def bare(model: nn.Module) -> Any:
    """The model that can `generate`."""
    return model.model if isinstance(model, Logits) else model


@torch.no_grad()
def cache_bytes(model: Any) -> float:
    """Bytes of cache per token, counted in the tensors that `generate` begins with."""
    if isinstance(model, FusedTransformer):
        tensors, steps = model.caches(1), model.config.mem_len
    else:
        _, memory = model(torch.zeros(1, 2, dtype=torch.int64))
        tensors = list(itertools.chain(*model.transformer.remembered(memory)))
        steps = len(memory)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / steps


def measure_train(settings: Settings, device: torch.device) -> dict[str, Any]:
    """The training step: a dictionary of rows for each configuration."""
    # All implementations except the native one can run everywhere.
    cannot = {"native"} if device.type != "cpu" or missing() else set()
    everybody = [feedback(name) for name in settings.implementations if name not in cannot]
    everybody += [TRANSFORMER, RIVAL, FUSED]
    everybody += [peer for package, peers in PEERS.items() if installed(package) for peer in peers]
    results = {}
    for size in map(settings.size, settings.configs):
        entries = [training(contestant, size, device) for contestant in everybody]
        results[str(size)] = race(f"train {size}", entries, settings.rounds, budget=10)
    return results


def measure_growth(settings: Settings, device: torch.device) -> dict[str, Any]:
    """A training step of the default and of the baseline: rows for each `T`, `B` and `L`."""
    pair = [feedback("auto"), FUSED]
    results: dict[str, Any] = {}
    for letter, values in settings.growth().items():
        results[letter] = {}
        for value in values:
            size = settings.size("d128")._replace(**{letter: value})
            entries = [training(contestant, size, device) for contestant in pair]
            rows = race(f"growth {size}", entries, settings.rounds, budget=3)
            results[letter][str(value)] = rows
    return results


def measure_decode(settings: Settings, device: torch.device) -> dict[str, Any]:
    """Decoding: rows for each batch size and length."""
    lengths, batches = settings.decoding()
    everybody = [feedback("auto")._replace(name="FeedbackLM"), TRANSFORMER, FUSED]
    results: dict[str, Any] = {}
    for B, T in itertools.product(batches, lengths):
        size = settings.size("d128")._replace(B=B, T=T)
        entries = [decoding(contestant, size, device) for contestant in everybody]
        rows = race(f"decode {size}", entries, settings.rounds, budget=3, count_memory=False)
        for contestant in everybody:
            row = rows[contestant.name]
            row["tokens_per_second"] = B * T / row["median"]
            row["cache_bytes_per_token"] = cache_bytes(bare(contestant.build(size.config())))
        results.setdefault(str(B), {})[str(T)] = rows
    return results


MEASURES = {"train": measure_train, "growth": measure_growth, "decode": measure_decode}


def machine(device: torch.device) -> dict[str, Any]:
    """What the numbers depend on."""
    return {
        "processor": processor("model name"),
        "cores": os.cpu_count(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "vector_extensions": torch.backends.cpu.get_cpu_capability(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "system": platform.platform(),
    }


def benchmark(settings: Settings, out: Path, overwrite: bool = False) -> dict[str, Any]:
    """
    ## The benchmark

    Measures, prints the tables, and writes numbers and pictures to the folder `out`; returns what
    the JSON file holds. Raises `ValueError` if `out` already holds a benchmark.
    """
    require(
        overwrite or not (out / RESULTS).exists(),
        f"{out} already holds a benchmark; replace it with --overwrite, or choose another "
        "folder with --out",
    )
    device = choose_device(settings.device)
    # A GPU's libraries allocate workspace at the first product: here, so that no contestant pays.
    torch.ones(8, 8, device=device).mm(torch.ones(8, 8, device=device))
    absent = [package for package in PEERS if not installed(package)]
    results: dict[str, Any] = {
        "machine": machine(device), "settings": asdict(settings), "not_installed": absent
    }  # fmt: skip
    print(", ".join(f"{key} {value}" for key, value in results["machine"].items() if value))
    if (results["machine"]["load"] or 0) > (os.cpu_count() or 1) / 2:
        print("the machine is busy, so times will vary; stop other programs first", file=sys.stderr)
    for part in MEASURES:
        if part in settings.parts:
            results[part] = MEASURES[part](settings, device)
            print(f"\n{TABLES[part](results[part])}", flush=True)
            # After each part: whoever stops it early keeps what was measured.
            write_whole(out / RESULTS, json.dumps(results, indent=1) + "\n")
    for part in MEASURES:
        (out / f"{part}.png").unlink(missing_ok=True)
    for name, picture in draw(results).items():
        write_whole(out / name, picture)
    return results
