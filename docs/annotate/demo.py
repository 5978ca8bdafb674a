r"""
---
title: Models for a page
summary: The numbers of trained models as scripts, so that a page can compute with them.
---

# Models for a page

A page may compute with trained models. It names them in its front matter, `models: NAME NAME`, and
the style sheets and scripts that do it, `loads: FILE FILE`. Each model becomes a script of its own,
because a page that was opened from a disk may load scripts and nothing else. In it are the
configuration, the characters and the shape of each tensor as JSON, and all numbers as float16, one
after the other, in base64. That halves the file. What the rounding costs is measured by a test.
"""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from .mistake import Mistake
from .parts import Source
from .settings import Settings

COMPUTED = {
    "share_kv": True,
    "activation": "relu",
    "empty_memory": "skip",
    "norm_memory": True,
    "adaptive_span": False,
    "d_k": None,
}
"""The choices that `docs/theme/model.js` computes; it has no others."""


def rounded(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a file, as float16."""
    return {name: tensor.astype("<f2") for name, tensor in sorted(load_file(path).items())}


def model_script(folder: Path) -> bytes:
    """A model as a script. Raises `ValueError` for one that the page could not compute."""
    config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for key, value in COMPUTED.items():
        # Files that were saved before an option existed lack it.
        if config.get(key, value) != value:
            raise ValueError(f"{folder} has {key} = {config[key]!r}, but a page computes {value!r}")
    tensors = rounded(folder / "model.safetensors")
    numbers = b"".join(tensor.tobytes() for tensor in tensors.values())
    sizes = ("n_layers", "n_heads", "d_model", "mem_len")
    data = {
        "config": {key: config[key] for key in sizes},
        "characters": config.get("characters", ""),
        "shapes": {name: tensor.shape for name, tensor in tensors.items()},
        "float16": base64.b64encode(numbers).decode(),
    }
    text = json.dumps(data, separators=(",", ":"))
    return f"(globalThis.MODELS ??= {{}}).{folder.name} = {text};\n".encode()


def models(settings: Settings, sources: list[Source]) -> dict[str, bytes]:
    """The scripts of all models that pages name; raises `Mistake` for one that does not exist."""
    files = {}
    for source in sources:
        for name in source.meta.get("models", "").split():
            folder = settings.root / settings.package / "trained" / name
            try:
                files[f"assets/{name}.js"] = model_script(folder)
            except (OSError, ValueError) as error:
                raise Mistake(
                    source.path, 1, f"the model {name!r} cannot be put on a page: {error}",
                    f"correct models: in the front matter, or {settings.package}/trained/{name}",
                ) from error  # fmt: skip
    return files
