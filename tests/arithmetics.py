"""
All notebooks under several arithmetics: python tests/arithmetics.py [--only NAME] [NOTEBOOK ...]

A notebook stores what its cells print, and nbval compares. Processors add in different orders, so
their last digits differ; a cell that amplifies those digits prints something else on the next
machine. Here one machine plays several:

| name | is |
|---|---|
| `two-threads` | the C++ loop on two threads |
| `no-compiler` | PyTorch's sweeps, one thread, no vector instructions in PyTorch's kernels |
| `oldest` | the C++ loop built for the oldest processor there is of this kind |
| `noise` | every weight that is loaded or trained is off by its last bits |

One after the other; with `--together`, at once: fewer runs, but they do not say whose fault it is.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent

NOISE = '''
def make_noise():
    """Moves the weights of the package, and all that an optimiser steps to, by rounding's size."""
    import sys
    from pathlib import Path

    import torch
    from torch.optim.optimizer import register_optimizer_step_post_hook

    if Path("../feedback/__init__.py").exists():
        sys.path.insert(0, "..")
    from feedback.lm import pretrained

    @torch.no_grad()
    def disturb(tensors, seed):
        # From the seed alone: two loops that take the same steps stay the same.
        generator = torch.Generator().manual_seed(seed)
        for tensor in tensors:
            noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            factor = 1 + SIZE * torch.finfo(tensor.dtype).eps * noise
            tensor.copy_(tensor * factor)

    def after_step(optimizer, *_):
        optimizer.noises = getattr(optimizer, "noises", 0) + 1
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        disturb(parameters, optimizer.noises)

    load = pretrained.load_weights

    def load_disturbed(model, weights, origin):
        load(model, weights, origin)
        if str(pretrained.TRAINED) in origin:
            disturb(model.parameters(), SEED)

    register_optimizer_step_post_hook(after_step)
    pretrained.load_weights = load_disturbed


make_noise()
del make_noise
'''

OLDEST = {"x86_64": "x86-64", "AMD64": "x86-64", "aarch64": "armv8-a", "arm64": "armv8-a"}
"""What `-march` calls the oldest processor of a kind."""


@contextmanager
def arithmetic(name: str, seed: int, size: float) -> Iterator[dict[str, str]]:
    """The environment variables under which a process computes with this arithmetic."""
    if name == "two-threads":
        yield {"OMP_NUM_THREADS": "2"}
    elif name == "no-compiler":
        plain = {"ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE"}
        # That it is slower is no news here, and no output of a notebook.
        plain["PYTHONWARNINGS"] = "ignore:PyTorch is used"
        yield {"OMP_NUM_THREADS": "1", "CXX": "false", **plain}
    elif name == "oldest":
        compiler = os.environ.get("CXX", "c++")
        yield {"CXX": f"{compiler} -march={OLDEST[platform.machine()]}"}
    else:
        with tempfile.TemporaryDirectory() as folder:
            startup = Path(folder, "profile_default/startup/noise.py")
            startup.parent.mkdir(parents=True)
            noise = NOISE.replace("SEED", str(seed)).replace("SIZE", str(size))
            startup.write_text(noise, encoding="utf-8")
            yield {"IPYTHONDIR": folder}


NAMES = ("two-threads", "no-compiler", "oldest", "noise")


def main() -> int:
    """
    Runs the notebooks under each arithmetic; returns 1 if an output differs from the stored one.
    """
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("notebooks", nargs="*", help="all of them if none is named")
    parser.add_argument("--only", choices=NAMES, action="append", help="an arithmetic; repeatable")
    parser.add_argument("--together", action="store_true", help="all of these at once")
    parser.add_argument("--seed", type=int, default=0, help="of the noise")
    parser.add_argument("--size", type=float, default=1, help="of the noise, in last bits")
    options = parser.parse_args()
    # The last are the longest. They begin first, so that no core waits for them in the end.
    every = sorted((p.stem for p in (ROOT / "notebooks").glob("*.ipynb")), reverse=True)
    names = options.notebooks or every
    paths = [p if Path(p).exists() else f"notebooks/{p}.ipynb" for p in names]
    command = [sys.executable, "-m", "pytest", "-c", "pyproject.toml", "--no-loadscope-reorder"]
    command.append("--nbval-cell-timeout=1200")
    failed = []
    chosen = options.only or NAMES
    for group in [chosen] if options.together else [[name] for name in chosen]:
        begun, name = time.perf_counter(), " and ".join(group)
        with ExitStack() as stack:
            environment = dict(os.environ)
            for one in group:
                environment |= stack.enter_context(arithmetic(one, options.seed, options.size))
            code = subprocess.run([*command, *paths], cwd=ROOT, env=environment).returncode
        print(f"{name}: exit code {code}, {time.perf_counter() - begun:.0f} s", flush=True)
        failed += [name] * (code != 0)
    print("differ under:", ", ".join(failed) or "none")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
