"""What lmms-eval learns of ``ppl``: the entry point ``lmms_eval.models`` of pyproject.toml leads here."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]  the extra's

MISSING = (
    "got no module named {name!r}, expected lmms-eval: install ppl[lmms] into an environment of its own, as "
    "docs/lmms_eval.md says"
)


def manifest() -> ModelManifest:
    """Name the model and its classes, so that ``lmms-eval --model ppl`` finds them; imports no torch.

    Raises:
        ModuleNotFoundError: lmms-eval is not installed.
    """
    try:
        from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(MISSING.format(name=error.name)) from error
    return ModelManifest(
        model_id="ppl",
        chat_class_path="ppl.integrations.lmms_eval_model.PPLChat",
        simple_class_path="ppl.integrations.lmms_eval_model.PPLSimple",
        aliases=("ppllava",),
    )
