"""The result of an alignment run as one safetensors file, and its way into a model to fine-tune."""

from __future__ import annotations

from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from ppl.modules.aligners.base import Aligner
from ppl.modules.backbones.base import Backbone
from ppl.modules.backbones.mismatches import mismatches

_POSITIONS = "aligner.text_tower.positions"


def alignment_state(backbone: Backbone, aligner: Aligner) -> dict[str, Tensor]:
    """The vision tower's and the aligner's weights, by name."""
    tower = {f"vision_tower.{k}": v for k, v in backbone.vision_tower.state_dict().items()}
    return tower | {f"aligner.{k}": v for k, v in aligner.state_dict().items()}


def save_alignment(path: str | Path, backbone: Backbone, aligner: Aligner) -> None:
    """Write what alignment trained, with the folder it goes to."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tensors = {k: v.detach().cpu().contiguous() for k, v in alignment_state(backbone, aligner).items()}
    save_file(tensors, path, metadata={"context": aligner.text_tower.context})


def load_alignment(path: str | Path, backbone: Backbone, aligner: Aligner | None) -> None:
    """Read an alignment run's file; an aligner's weights are left out if the model has none.

    A text context that was aligned at its trained length (``context: off``) is extended as the model's aligner says.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: Its tensors are not exactly those of the vision tower and the aligner, which the message lists; or
            its text context was extended in another way than the model's.
    """
    if not Path(path).is_file():
        msg = (
            f"got alignment={str(path)!r}, expected the alignment.safetensors of an alignment run: run it first "
            "(ppl fit -c recipes/experiments/tiny_align.yaml, or whichever writes there)"
        )
        raise FileNotFoundError(msg)
    stored = load_file(path)
    if aligner is None:
        stored = {k: v for k, v in stored.items() if not k.startswith("aligner.")}
        expected = {f"vision_tower.{k}": v for k, v in backbone.vision_tower.state_dict().items()}
    else:
        if _context(path) is not None:  # before shapes, which would not say why
            _check_context(path, aligner)
        expected = alignment_state(backbone, aligner)
        if _context(path) == "off" and _POSITIONS in stored:
            stored[_POSITIONS] = aligner.text_tower.extend(stored[_POSITIONS])
    problems = mismatches("file", stored, expected)
    if problems:
        lines = "\n".join(f"  {line}" for line in problems)
        msg = f"the tensors of {path} are not those of this model's vision tower and aligner:\n{lines}"
        raise ValueError(msg)
    if aligner is not None:
        _check_context(path, aligner)
    for name, tensor in expected.items():
        tensor.copy_(stored[name])


def _context(path: str | Path) -> str | None:
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get("context")


def _check_context(path: str | Path, aligner: Aligner) -> None:
    """Refuse a text context that was extended in another way: shapes do not tell one from the other, or not why."""
    context, own = _context(path), aligner.text_tower.context
    if context not in ("off", own):
        expected = "'off'" if own == "off" else f"'off' or the model's {own!r}"
        msg = (
            f"{path} was aligned with the text context {context!r}, expected {expected}: "
            "align with the aligner's context: off, which any model can extend, or give the model the file's"
        )
        raise ValueError(msg)
