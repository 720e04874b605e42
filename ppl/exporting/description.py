"""What every exported folder says of itself: how `ppl` opens it, and how others do."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import transformers
import yaml
from safetensors.torch import save_file
from torch import Tensor

from ppl import __version__
from ppl.batches import MediumInfo
from ppl.checkpoint_files import ADAPTER, DESCRIPTION
from ppl.exporting.card import model_card
from ppl.modules.tuning import TuningModule

NOT_ARGUMENTS = ("_class_path", "_instantiator")
"""What Lightning keeps among a module's arguments."""


def recipe_of(module: TuningModule) -> dict[str, Any]:
    """A copy of the arguments that a module was built with; the alignment file's weights are in the module."""
    arguments = {key: value for key, value in module.hparams.items() if key not in NOT_ARGUMENTS}
    return deepcopy(arguments) | {"alignment": None, "cache": None}


def write_description(
    module: TuningModule,
    folder: Path,
    recipe: Mapping[str, Any],
    base: Mapping[str, Any],
    weights: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Write ``ppl.yaml``, the aligner's config and tokenizer, and files of weights.

    Args:
        module: The model.
        folder: Where to.
        recipe: Arguments it is rebuilt with.
        base: Source, revision and digest of the weights that are in none of the files below.
        weights: Tensors by file; files without any are not written.
    """
    files = {name: tensors for name, tensors in weights.items() if tensors}
    description = {
        "ppl": __version__,
        "transformers": transformers.__version__,
        "model": {"class_path": module.hparams["_class_path"], "init_args": dict(recipe)},
        "conversation": module.conversation,
        "base": {key: base[key] for key in ("source", "revision", "digest")} | {"frozen": None},
        "files": list(files),
    }
    (folder / DESCRIPTION).write_text(yaml.safe_dump(description, sort_keys=False))
    for name, text in module.model.files().items():
        if name.startswith("aligner/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    for name, tensors in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        save_file(
            {key: t.detach().contiguous() for key, t in tensors.items()}, folder / name, metadata={"format": "pt"}
        )


def write_card(module: TuningModule, folder: Path, name: str, base: str | None) -> None:
    """Write a model card: what the folder is, the lines that open it, and what is left for its author to fill in."""
    backbone, pooler = module.model.backbone, module.model.pooler
    kind = type(backbone.hf).__name__
    plain = f"{kind}.from_pretrained({name!r})"
    if base is not None:
        adapter = str(Path(ADAPTER).parent)
        plain = f"PeftModel.from_pretrained({kind}.from_pretrained({base!r}), {f'{name}/{adapter}'!r})"
    opening = (
        f"A video language model of `{kind}`, tuned with `ppl`, a framework for "
        "[PPLLaVA](https://arxiv.org/abs/2411.02327).\n"
        f"Its visual tokens are pooled by `{type(pooler).__name__}`"
        + (" under the prompt's guidance.\n\n" if pooler.uses_relevance else ".\n\n")
        + f"```bash\nppl chat --checkpoint {name} clip.mp4 'What happens?'  # as it was trained, with pooling\n```\n\n"
        f"```python\n{plain}   # the language model, vision tower and projector alone: no pooling\n```\n\n"
        f"All arguments are in `{DESCRIPTION}`.\n"
    )
    facts: dict[str, object] = {key.replace("_", " "): value for key, value in module.conversation.items()}
    if "num_frames" in module.conversation:
        side = module.input_spec.image_size
        video = MediumInfo(0, "video", module.conversation["num_frames"], (side, side), "")
        facts["visual tokens of such a video"] = module.model.num_visual_tokens(video)
    model = {"class_path": module.hparams["_class_path"], "init_args": recipe_of(module)}
    library = "transformers" if base is None else "peft"
    card = model_card(name, model, facts, opening, library=library, base=base)
    (folder / "README.md").write_text(card, encoding="utf-8")
