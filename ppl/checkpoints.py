"""Load a fine-tuned model from its checkpoint alone: the recipe, model configs and tokenizer are inside."""

from __future__ import annotations

import pkgutil
import tempfile
import warnings
from argparse import ArgumentError
from collections.abc import Iterator
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser
from transformers.initialization import no_init_weights

from ppl import __version__
from ppl.checkpoint_files import DESCRIPTION, read_exported, read_shards
from ppl.modules.aligners.base import Aligner
from ppl.modules.backbones.identity import base_identity
from ppl.modules.tuning import TuningModule
from ppl.saving.harmless import SHARDS, read_file

_ADVICE = "open it with the version of ppl that wrote it, or train again with this one"
_NOISE = ("Does not validate", "Subtypes:", "Errors:", "Expected a <class 'NoneType'>", "Given value")
"""Lines of jsonargparse that say nothing of what it does not accept."""
_LIGHTNING_KEYS = ("_class_path", "_instantiator")


def load(path: str | Path, base: str | None = None) -> TuningModule:
    """Rebuild the model of a checkpoint, in evaluation mode on the CPU.

    Of a checkpoint that holds all weights nothing else is read: not the recipe, not the hub, not the folders the run
    was started from. One that leaves out what did not train is completed from its base. Weights stay pages of the
    files until they are written to, so that a model is in memory once at most.

    Args:
        path: What `read_checkpoint` takes.
        base: Folder or hub id of the backbone that the checkpoint was trained upon, where it is no longer at the
            source that the checkpoint names.

    Raises:
        FileNotFoundError: There is no such file, or no such base.
        ValueError: It is not a checkpoint of `ppl`, or of a version whose classes or their arguments were others. Or
            its weights are not exactly the model's; the message lists them. Or the base has other weights than that of
            the run.
    """
    checkpoint = read_checkpoint(path)
    _check_classes(checkpoint, path)
    if base is not None:
        checkpoint["hyper_parameters"]["backbone"]["init_args"] |= {"source": base, "revision": "main"}
    _leave_quantized(checkpoint)
    if _needs_base(checkpoint) or (base is not None and checkpoint["ppl"].get("base") is not None):
        _check_base(checkpoint, path)
    filled = nullcontext() if _needs_base(checkpoint) else no_init_weights()  # every weight is read below
    with tempfile.TemporaryDirectory() as folder, filled:
        try:
            module = _build(checkpoint, Path(folder))
        except ArgumentError as error:
            raise _other_arguments(error, path) from error
    module.on_load_checkpoint(checkpoint)
    _load_strictly(module, checkpoint, path)
    module.loaded_from = str(path)
    return module.eval()


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Read a file of `ppl fit`, a folder of shards that a sharded strategy wrote, or a folder of `ppl export`.

    Args:
        path: The file or folder.

    Returns:
        What Lightning saves, with all weights by name in ``state_dict``, but those that are left to the base.

    Raises:
        FileNotFoundError: There is nothing, or something of it is missing.
        ValueError: It is no checkpoint of `ppl`, or holds more than tensors and plain values.
    """
    place = Path(path)
    if (place / DESCRIPTION).is_file():
        return read_exported(place)
    if (place / SHARDS).is_file():
        checkpoint = read_shards(place)
    elif place.is_file():
        checkpoint = read_file(place)
    elif place.is_dir():
        msg = (
            f"got checkpoint {str(path)!r}, a folder without {DESCRIPTION} (of `ppl export`) and without {SHARDS} "
            "(of a sharded run); expected one of those, or a file that `ppl fit` wrote"
        )
        raise FileNotFoundError(msg)
    else:
        msg = (
            f"got checkpoint {str(path)!r}, which does not exist; expected one that `ppl fit` wrote: "
            "correct the path; `make demo` trains a small one"
        )
        raise FileNotFoundError(msg)
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
    recipe |= {"alignment": None, "cache": None}
    if not _needs_base(checkpoint):
        recipe["backbone"]["init_args"] |= {"source": str(folder / "backbone"), "initialize": "random"}
    if recipe.get("aligner") is not None:
        kind = pkgutil.resolve_name(recipe["aligner"]["class_path"])
        if not (isinstance(kind, type) and issubclass(kind, Aligner)):
            path = recipe["aligner"]["class_path"]
            msg = f"got an aligner of class {path} in the checkpoint, expected a subclass of {Aligner.__name__}"
            raise ValueError(msg)
        recipe["aligner"]["init_args"] |= kind.rebuild_arguments(folder / "aligner")
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(TuningModule, "module")
    config = parser.parse_object({"module": {"class_path": class_path, "init_args": recipe}})
    with warnings.catch_warnings():  # without Lightning's own CLI, hparams first hold live modules; mended just below
        warnings.filterwarnings("ignore", message="Attribute .* is an instance of `nn.Module`")
        module = parser.instantiate(config)["module"]
    module.hparams.clear()  # what was given to whoever called this: live modules, or the arguments of `load`
    module.save_hyperparameters(checkpoint["hyper_parameters"])
    return module


def _needs_base(checkpoint: dict[str, Any]) -> bool:
    """Whether frozen weights are not in the checkpoint."""
    base = checkpoint["ppl"].get("base")
    return base is not None and (base["frozen"] is None or not set(base["frozen"]) <= checkpoint["state_dict"].keys())


def _check_base(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Look for the base before the model is built, and name it where it was found."""
    arguments, expected = checkpoint["hyper_parameters"]["backbone"]["init_args"], checkpoint["ppl"]["base"]
    advice = (
        f"{path} holds only what trained upon it; put it there again, or complete the checkpoint with a copy of it: "
        f"ppl export {path} --base COPY --merge -o FOLDER"
    )
    try:
        found = base_identity(arguments["source"], arguments.get("revision", "main"))
    except FileNotFoundError as error:
        error.add_note(advice)
        raise
    if found["digest"] != expected["digest"]:
        msg = (
            f"got other weights in {arguments['source']} (digest {found['digest'][:12]}), expected those of "
            f"{expected['source']} at revision {expected['revision']} (digest {expected['digest'][:12]}); {advice}"
        )
        raise ValueError(msg)
    checkpoint["ppl"]["base"] = {**expected, **found}


def _check_classes(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Look for every class that the recipe names before one is made."""
    recipe = checkpoint["hyper_parameters"]
    for name in [str(recipe.get("_class_path")), *_class_paths(recipe)]:
        try:
            pkgutil.resolve_name(name)
        except (ImportError, AttributeError, ValueError) as error:
            msg = (
                f"got checkpoint {path}, whose recipe names the class {name}, expected one that is there; ppl "
                f"{__version__} does not find it ({error}): {_ADVICE}; if the class is yours, put its folder on "
                "PYTHONPATH"
            )
            raise ValueError(msg) from error


def _other_arguments(error: ArgumentError, path: str | Path) -> ValueError:
    lines = (line.strip().removeprefix("- ") for line in str(error).splitlines())
    faults = " ".join(line for line in lines if not line.startswith(_NOISE))
    return ValueError(
        f"got checkpoint {path}, whose recipe ppl {__version__} does not accept ({faults}), expected one whose classes "
        f"take the same arguments: {_ADVICE}"
    )


def _class_paths(part: object) -> Iterator[str]:
    members = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    if isinstance(part, dict) and isinstance(part.get("class_path"), str):
        yield part["class_path"]
    for member in members:
        yield from _class_paths(member)


def _leave_quantized(checkpoint: dict[str, Any]) -> None:
    """Leave quantised weights to the base, where they are quantised again: transformers reads them no other way."""
    if checkpoint["hyper_parameters"]["backbone"]["init_args"].get("quantization") is None:
        return
    base = checkpoint["ppl"].get("base") or {"frozen": []}
    frozen = set(base["frozen"] or [])
    checkpoint["state_dict"] = {name: t for name, t in checkpoint["state_dict"].items() if name not in frozen}


def _load_strictly(module: TuningModule, checkpoint: dict[str, Any], path: str | Path) -> None:
    """Take tensors as they are where the precision is the model's, in place of the model's own."""
    own, state = module.state_dict(), checkpoint["state_dict"]
    for name in state.keys() & own.keys():
        state[name] = state[name].to(own[name].dtype)
    try:
        module.load_state_dict(state, strict=module.strict_loading, assign=True)
    except RuntimeError as error:  # torch lists missing, unexpected and misshapen tensors
        msg = f"the weights in {path} are not those of the model its recipe describes: {error}"
        raise ValueError(msg) from error
    module.model.backbone.hf.tie_weights()
