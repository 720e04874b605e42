"""Several exported adapters on one base, which is in memory once."""

from __future__ import annotations

import warnings
from pathlib import Path

from torch import Tensor

from ppl.checkpoint_files import read_exported
from ppl.checkpoints import load
from ppl.modules.lora import LoRA, lora_config
from ppl.modules.saving import base_of
from ppl.modules.tuning import TuningModule

_SHARED = ("pooler", "aligner", "positions", "pool_site")
"""Arguments that all adapters of one model have in common, beside the base."""
_FIRST = "default"


class Adapters:
    """Models that share their base: LoRA in the language model, the projector and the aligner of each are its own.

    Args:
        folder: What `ppl export` wrote without ``--merge``.
        base: Where the base is, if no longer at its source.
    """

    def __init__(self, folder: str | Path, base: str | None = None) -> None:
        self.module: TuningModule = load(folder, base)
        held = self.module.state_dict()
        state = read_exported(Path(folder))["state_dict"]
        self._beside: dict[str, dict[str, Tensor]] = {
            _FIRST: {name: held[name] for name in state if ".lora_" not in name}
        }

    def add(self, name: str, folder: str | Path) -> None:
        """Read another folder's adapter beside those that are there; it is not in use until `use`.

        Raises:
            ValueError: The name is taken, or the folder is of another base, pooler or aligner.
        """
        from peft import inject_adapter_in_model

        checkpoint = read_exported(Path(folder))
        self._check(name, checkpoint, folder)
        lora = checkpoint["hyper_parameters"]["lora"]
        decoder = self.module.model.backbone.language_model
        with warnings.catch_warnings():  # one adapter beside another is what is asked for
            warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
            inject_adapter_in_model(lora_config(LoRA(**lora)), decoder, adapter_name=name)
        state = {key.replace(f".{_FIRST}.", f".{name}."): tensor for key, tensor in checkpoint["state_dict"].items()}
        adapters = {key: tensor for key, tensor in state.items() if ".lora_" in key}
        unknown = self.module.load_state_dict(adapters, strict=False, assign=True).unexpected_keys
        assert not unknown, f"peft made no place for {unknown}"
        self._beside[name] = {key: tensor for key, tensor in state.items() if ".lora_" not in key}
        self.use(_FIRST)

    def use(self, name: str) -> TuningModule:
        """Answer with one of the adapters from now on; the first is called ``default``.

        Raises:
            ValueError: There is no such adapter.
        """
        from peft.tuners.lora import LoraLayer

        if name not in self._beside:
            msg = f"got the adapter {name!r}, expected one of {', '.join(self._beside)}: add it first"
            raise ValueError(msg)
        for layer in self.module.modules():
            if isinstance(layer, LoraLayer):
                layer.set_adapter(name, inference_mode=True)
        self.module.load_state_dict(self._beside[name], strict=False, assign=True)
        return self.module.eval()

    def _check(self, name: str, checkpoint: dict, folder: str | Path) -> None:
        if name in self._beside or not name.isidentifier():
            msg = f"got the name {name!r} for {folder}, expected a word that is none of {', '.join(self._beside)}"
            raise ValueError(msg)
        base, own, recipe = base_of(self.module), self.module.hparams, checkpoint["hyper_parameters"]
        assert base is not None
        other = [key for key in _SHARED if recipe.get(key) != own.get(key)]
        if checkpoint["ppl"]["base"]["digest"] != base["digest"]:
            other.append("base")
        if other or recipe.get("lora") is None:
            what = ", ".join(other) or "no LoRA"
            msg = f"{folder} has another {what} than the first folder, expected the same for one model: open it alone"
            raise ValueError(msg)
