"""Load a fine-tuned model from its checkpoint alone: the recipe, model configs and tokenizer are inside."""

from __future__ import annotations

import importlib
import pickle
import tempfile
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser

from ppl.modules.aligners.base import Aligner
from ppl.modules.tuning import TuningModule

_LIGHTNING_KEYS = ("_class_path", "_instantiator")


def load(path: str | Path) -> TuningModule:
    """Rebuild the model of a ``ppl fit`` checkpoint, in evaluation mode on the CPU.

    Nothing but the checkpoint is read: not the recipe, not the hub, not the folders the run was started from.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not a checkpoint of `ppl`, or its weights are not exactly the model's; the message
            lists them.
    """
    if not Path(path).is_file():
        msg = (
            f"got checkpoint {str(path)!r}, which does not exist; expected one that `ppl fit` wrote: "
            "run `make demo`, or name another with --checkpoint"
        )
        raise FileNotFoundError(msg)
    checkpoint = _read(path)
    with tempfile.TemporaryDirectory() as folder:
        module = _build(checkpoint, Path(folder))
    module.on_load_checkpoint(checkpoint)
    _load_strictly(module, checkpoint["state_dict"], path)
    return module.eval()


def _read(path: str | Path) -> dict[str, Any]:
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        msg = (
            f"{path} holds more than tensors and plain values, or is no checkpoint at all; expected one that `ppl fit` "
            "wrote (a module built in Python stores live objects in place of its recipe: train it by the CLI)"
        )
        raise ValueError(msg) from error
    if not isinstance(checkpoint, dict) or "ppl" not in checkpoint or "hyper_parameters" not in checkpoint:
        msg = f"{path} is no checkpoint of `ppl fit` (it lacks its recipe); expected a file that SFTModule, say, saved"
        raise ValueError(msg)
    return checkpoint


def _build(checkpoint: dict[str, Any], folder: Path) -> TuningModule:
    for name, text in checkpoint["ppl"]["files"].items():
        file = (folder / name).resolve()
        if not file.is_relative_to(folder.resolve()):
            msg = f"the checkpoint holds a file named {name!r}, expected names inside its own folder; do not trust it"
            raise ValueError(msg)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    recipe = deepcopy(checkpoint["hyper_parameters"])
    class_path = recipe["_class_path"]
    recipe = {key: value for key, value in recipe.items() if key not in _LIGHTNING_KEYS}
    recipe |= {"alignment": None, "cache_folder": None}
    recipe["backbone"]["init_args"] |= {"source": str(folder / "backbone"), "initialize": "random"}
    if recipe.get("aligner") is not None:
        kind = _aligner_class(recipe["aligner"]["class_path"])
        recipe["aligner"]["init_args"] |= kind.rebuild_arguments(folder / "aligner")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TuningModule, "module")
    config = parser.parse_object({"module": {"class_path": class_path, "init_args": recipe}})
    with warnings.catch_warnings():  # without Lightning's own CLI, hparams first hold live modules; mended just below
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        module = parser.instantiate(config)["module"]
    module.save_hyperparameters(checkpoint["hyper_parameters"])
    return module


def _aligner_class(path: str) -> type[Aligner]:
    module, _, name = path.rpartition(".")
    kind = getattr(importlib.import_module(module), name, None)
    if not (isinstance(kind, type) and issubclass(kind, Aligner)):
        msg = f"got an aligner of class {path} in the checkpoint, expected a subclass of {Aligner.__name__}"
        raise ValueError(msg)
    return kind


def _load_strictly(module: TuningModule, state: dict[str, torch.Tensor], path: str | Path) -> None:
    try:
        module.load_state_dict(state, strict=True)
    except RuntimeError as error:  # torch lists missing, unexpected and misshapen tensors
        msg = f"the weights in {path} are not those of the model its recipe describes: {error}"
        raise ValueError(msg) from error
