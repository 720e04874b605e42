"""What LoRA trained, apart from its base: adapters as peft reads them, the projector and the aligner beside them."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from ppl.checkpoint_files import ADAPTER, OTHERS, PROJECTOR
from ppl.exporting.description import recipe_of, write_card, write_description
from ppl.exporting.whole import other_weights
from ppl.modules.lora import DECODER, LoRA, adapter_config
from ppl.modules.saving import BACKBONE, base_of
from ppl.modules.tuning import TuningModule


def write_adapter(module: TuningModule, partial: Path, folder: Path) -> None:
    """Write all but the base's own weights.

    Args:
        module: A model with adapters.
        partial: Where to write.
        folder: What the folder will be called.

    Raises:
        ValueError: Nobody could find the base: its weights were random, or those of another run.
    """
    base = base_of(module)
    if base is None:
        msg = (
            "got adapters upon weights that no source has (initialize: random, or a run begun with --init_from), "
            "expected a base read from a folder or a repository, to name it: add --merge to write the whole model"
        )
        raise ValueError(msg)
    commit = None if Path(base["source"]).is_dir() else base["revision"]
    config = adapter_config(LoRA(**module.hparams["lora"]), base["source"], commit)
    config.save_pretrained(str((partial / ADAPTER).parent))
    write_description(module, partial, recipe_of(module), base, trained_weights(module))
    write_card(module, partial, folder.name, base["source"])


def trained_weights(module: TuningModule) -> dict[str, dict[str, Tensor]]:
    """What the base does not have, by file: adapters under peft's names, the projector's under transformers'."""
    from peft import get_peft_model_state_dict

    base = base_of(module)
    assert base is not None
    adapters = get_peft_model_state_dict(module.model.backbone.language_model, save_embedding_layers=False)
    frozen = set(base["frozen"])
    projector = {
        name.removeprefix(BACKBONE): tensor
        for name, tensor in module.state_dict().items()
        if name.startswith(BACKBONE) and ".lora_" not in name and name not in frozen
    }
    return {
        ADAPTER: {f"base_model.model.{DECODER}.{name}": tensor for name, tensor in adapters.items()},
        PROJECTOR: projector,
        OTHERS: other_weights(module),
    }
