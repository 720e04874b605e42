"""What lmms-eval learns of ``ppl``: the entry point ``lmms_eval.models`` of pyproject.toml leads here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ppl.extras import MissingExtraError, missing

if TYPE_CHECKING:
    from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]  the extra's


def missing_lmms_eval(error: ModuleNotFoundError) -> MissingExtraError:
    """Say what to install, and where."""
    more = " in an environment of its own, as docs/lmms_eval.md says"
    return missing("lmms", str(error.name), "`lmms-eval --model ppl`", more)


def manifest() -> ModelManifest:
    """Name the model and its classes, so that ``lmms-eval --model ppl`` finds them; imports no torch.

    Raises:
        MissingExtraError: lmms-eval is not installed.
    """
    try:
        from lmms_eval.models.registry_v2 import ModelManifest  # pyright: ignore[reportMissingImports]
    except ModuleNotFoundError as error:
        raise missing_lmms_eval(error) from error
    return ModelManifest(
        model_id="ppl",
        chat_class_path="ppl.integrations.lmms_eval_model.PPLChat",
        simple_class_path="ppl.integrations.lmms_eval_model.PPLSimple",
        aliases=("ppllava",),
    )
