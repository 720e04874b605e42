"""Read a recipe as ``ppl fit`` would, and build its model on the meta device: shapes without numbers."""

from __future__ import annotations

import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import ExitStack
from copy import deepcopy
from typing import Any, NamedTuple

import torch
from jsonargparse import ArgumentParser, set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ppl.misspelt_keys import misspelt_keys
from ppl.modules.sft import SFTModule
from ppl.planning.source import architecture_folder, read_architecture


class Recipe(NamedTuple):
    """The resolved recipe, part by part."""

    model: dict[str, Any]
    data: dict[str, Any]
    trainer: dict[str, Any]


class _StayOnMeta(TorchFunctionMode):
    """Leave meta tensors where they are when a library (open_clip) moves its new model to the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ANN401
        del types
        if func is Tensor.to and args[0].is_meta:
            types_asked = [a for a in (*args[1:], *(kwargs or {}).values()) if isinstance(a, torch.dtype)]
            return func(args[0], *types_asked) if types_asked else args[0]
        return func(*args, **(kwargs or {}))


def read_recipe(words: Sequence[str], *, needs_model: bool = True) -> Recipe:
    """Parse ``-c`` files and overrides; nothing is instantiated, so data files need not exist.

    Args:
        words: As ``ppl fit`` takes them.
        needs_model: A recipe without one is an error; otherwise its ``model`` may be empty.

    Raises:
        ValueError: A key or value is not accepted, with its file and path; or there is no model.
    """
    set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
    parser = LightningArgumentParser(parser_mode="omegaconf+", exit_on_error=False)
    parser.add_argument("-c", "--config", action="config")
    parser.add_argument("--seed_everything", type=bool | int)
    parser.add_lightning_class_args(Trainer, "trainer")
    parser.add_lightning_class_args(LightningModule, "model", subclass_mode=True, required=needs_model)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True, required=False)
    try:
        config = parser.parse_args(list(words))
    except ArgumentError as error:
        lines = misspelt_keys(["fit", *words], str(error)) or [
            f"{error}\n`ppl plan --help` shows its own options, `ppl fit --help` what a recipe accepts"
        ]
        raise ValueError("\n".join(lines)) from error
    resolved = config.as_dict()
    return Recipe(resolved.get("model") or {}, resolved.get("data") or {}, resolved["trainer"])


def build_model(recipe: Recipe, source: str | None = None, device: str = "meta") -> tuple[SFTModule, str]:
    """Instantiate the recipe's model without its weights.

    Args:
        recipe: Of an SFT run.
        source: Read the backbone's architecture from there instead of the recipe's ``source``.
        device: ``meta`` for shapes alone; elsewhere weights are random, to measure what is estimated.

    Returns:
        The module, and where the architecture came from.

    Raises:
        ValueError: The recipe is not of supervised fine-tuning.
        FileNotFoundError: The architecture is nowhere to be found.
    """
    model = deepcopy(recipe.model)
    arguments = model["init_args"]
    if "pooler" not in arguments:
        msg = (
            f"got a recipe of {model['class_path']}, expected one of ppl.modules.sft.SFTModule: only fine-tuning is "
            "planned, because only there a sequence of visual tokens passes a language model"
        )
        raise ValueError(msg)
    backbone = arguments["backbone"]["init_args"]
    architecture = read_architecture(source or backbone["source"], backbone.get("revision", "main"))
    arguments |= {"alignment": None, "cache": None}
    backbone |= {"initialize": "random", "attention": "sdpa"} | (
        {"quantization": None} if "quantization" in backbone else {}
    )
    with ExitStack() as stack:
        backbone["source"] = stack.enter_context(architecture_folder(architecture))
        _without_weights((arguments.get("aligner") or {}).get("init_args", {}), stack)
        # Without Lightning's own CLI, hparams hold live modules.
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        parser = ArgumentParser(exit_on_error=False)
        parser.add_subclass_arguments(LightningModule, "module")
        config = parser.parse_object({"module": model})
        with torch.device(device), _StayOnMeta():
            module = parser.instantiate(config)["module"]
    return module, architecture.origin


def _without_weights(aligner: dict[str, Any], stack: ExitStack) -> None:
    """Have an aligner of ``open_clip`` or of transformers built from its architecture alone."""
    if "load_weights" in aligner:
        aligner["load_weights"] = False
    if "source" in aligner:
        architecture = read_architecture(aligner["source"], aligner.get("revision", "main"))
        aligner["source"] = stack.enter_context(architecture_folder(architecture))
        aligner["initialize"] = "random"
