r"""
---
title: Saving and loading
summary: A folder with safetensors and JSON: here, in the package, or on the hub.
---

# Saving and loading

A trained model is two files: `model.safetensors` holds the numbers and `config.json` says what
they are. (A third, `tokenizer.json`, is there if the tokenizer came from such a file.) None of them
can run code when it is opened. `push_to_hub` and the model card come from
`huggingface_hub`'s mixin; reading and writing are done here, so that a failed write leaves the old
files as they were, and the error for a damaged file says what is wrong with it.

One such folder comes with the package, so that there is a trained model to try at once:

```python
model = FeedbackLM.from_pretrained("tiny_shakespeare")
```
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from huggingface_hub import ModelHubMixin, snapshot_download
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..config import ModelConfig
from ..data.tokenizer import TOKENIZER, read_tokenizer
from ..support.checks import expect, require, require_fits
from ..support.files import read_file, write_together

CONFIG, WEIGHTS = "config.json", "model.safetensors"
MOST_CONFIG = 2**26
"""The largest `config.json` that is read, in bytes; one with all of Unicode in it is smaller."""
TRAINED = Path(__file__).parent.parent / "trained"
"""The models that come with the package, one folder each."""


def shipped() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(folder.name for folder in TRAINED.iterdir() if folder.is_dir())


def find(name: str | Path) -> Path:
    """The folder `name`; if there is none, the folder of the shipped model of that name, if any."""
    expect(bool(str(name)), "name", name, "the folder or the name of a model")
    folder = Path(name)
    return TRAINED / folder if not folder.is_dir() and str(name) in shipped() else folder


def read_config(folder: Path) -> dict[str, Any]:
    """The contents of `config.json`; raises `ValueError` if it is missing or damaged."""
    path = Path(folder) / CONFIG
    require(
        path.is_file(), f"{folder} holds no {CONFIG}; expected a folder made by save_pretrained"
    )
    try:
        values = json.loads(read_file(path, MOST_CONFIG).decode())
    except RecursionError:
        raise ValueError(f"{path} is damaged: brackets in brackets, too deep to read") from None
    except ValueError as error:
        raise ValueError(f"{path} is damaged: not JSON ({error})") from error
    require(isinstance(values, dict), f"{path} is damaged: expected a JSON object")
    try:
        ModelConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{path} does not describe a valid model: {error}") from error
    return values


def load_weights(model: torch.nn.Module, weights: dict[str, torch.Tensor], origin: str) -> None:
    """`load_state_dict`, with a one-line `ValueError` that names what does not fit."""
    own = model.state_dict()
    for name in [*own, *weights]:
        require(name in weights, f"{origin} lacks the parameter {name}; it is from another model")
        require(name in own, f"{origin} has the parameter {name}, which this model does not have")
        shape, expected = tuple(weights[name].shape), tuple(own[name].shape)
        require(
            shape == expected,
            f"{origin} has {name} of shape {shape}, expected {expected}; "
            "it was made with another configuration: use the same one here",
        )
    model.load_state_dict(weights)


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """
    The tensors of a safetensors file, which must be finite numbers; raises `ValueError` if it is
    missing or damaged. The file says how large they are, and it is asked before they are made.
    """
    require(path.is_file(), f"{path.parent} holds no {path.name}")
    require_fits(path.stat().st_size, str(path))
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or truncated ({error})") from error
    for name, tensor in weights.items():
        real = tensor.is_floating_point()
        require(real, f"{path} has {name} of type {tensor.dtype}, expected floating-point numbers")
        good = bool(tensor.float().isfinite().all())
        require(good, f"{path} has {name} with values that are not finite; the model is of no use")
    return weights


def download(name: str, **hub: Any) -> Path:
    """The folder of a model on the hub; raises `ValueError` if it cannot be loaded."""
    try:
        return Path(snapshot_download(name, allow_patterns=[CONFIG, WEIGHTS, TOKENIZER], **hub))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{name!r} is not a folder, does not come with the package ({', '.join(shipped())}), "
            f"and the Hugging Face hub did not give it ({type(error).__name__}); check the name"
        ) from error


class Pretrained(
    ModelHubMixin,
    torch.nn.Module,
    library_name="feedback",
    tags=["feedback-transformer"],
    paper_url="https://arxiv.org/abs/2002.09402",
):
    """
    ## What a language model needs to live in a folder

    A mixin that saves and loads `config` and the parameters.
    """

    config: ModelConfig
    extra: Mapping[str, Any] = MappingProxyType({})
    """What `config.json` holds besides the model: the vocabulary of a run, for example."""
    tokenizer_json: str | None = None
    """What `tokenizer.json` holds, if the model's tokens are those of such a file."""

    def save_pretrained(
        self, save_directory: str | Path, *, extra: dict[str, Any] | None = None, **hub: Any
    ) -> str | None:
        """
        Writes `model.safetensors` and `config.json`, and `tokenizer.json` if the model has one,
        completely or not at all. The keys of `extra`
        are stored next to those of the model, and stay with it: a model that was saved or loaded
        with a vocabulary is saved with it the next time, on the hub too. Further options are those
        of `huggingface_hub.ModelHubMixin.save_pretrained`; with any of them a model card is also
        written.
        """
        if extra is not None:
            self.extra = extra
        if hub:
            return super().save_pretrained(save_directory, **hub)
        self._save_pretrained(Path(save_directory))
        return None

    def _save_pretrained(self, save_directory: Path) -> None:
        own = {"architecture": type(self).__name__, **asdict(self.config)}
        values = {**own, **self.extra, **own}
        weights = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        config = json.dumps(values, indent=2) + "\n"
        files: dict[str, bytes | str] = {WEIGHTS: save(weights), CONFIG: config}
        if self.tokenizer_json is not None:
            files[TOKENIZER] = self.tokenizer_json
        write_together({save_directory / name: content for name, content in files.items()})

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        cache_dir: str | Path | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
        **options: Any,
    ) -> Any:
        """
        Loads a model from a folder. If there is no such folder, it loads the model of that name
        that comes with the package, such as `tiny_shakespeare`, or else the one on the hub.
        `options`, such as `implementation`, are passed to the class. The model is returned in
        evaluation mode, on the CPU. Raises `ValueError` if files are missing, damaged, or of
        another model.
        """
        folder = find(pretrained_model_name_or_path)
        if not folder.is_dir():
            hub = dict(revision=revision, cache_dir=cache_dir, token=token)
            folder = download(str(folder), local_files_only=local_files_only, **hub)
        values = read_config(folder)
        made_by = values.get("architecture", cls.__name__)
        require(
            made_by == cls.__name__,
            f"{folder} holds a {made_by}, expected a {cls.__name__}; choose another folder, or in "
            f"Python use {made_by}.from_pretrained",
        )
        path = folder / WEIGHTS
        weights = read_weights(path)
        model = cls(ModelConfig.from_dict(values), **options)
        load_weights(model, weights, str(path))
        own = {"architecture", *asdict(model.config)}
        model.extra = {key: value for key, value in values.items() if key not in own}
        if values.get("tokenizer") == TOKENIZER:
            model.tokenizer_json = read_tokenizer(folder)
        return model.eval()
