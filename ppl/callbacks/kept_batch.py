"""Batches that a run set aside: tensors as safetensors, everything else as JSON, so that reading them runs no code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ppl.batches import MediumInfo

_TENSORS, _REST = "tensors.safetensors", "batch.json"


class KeptBatch(NamedTuple):
    """A batch that was set aside."""

    batch: Any
    """As the model's ``training_step`` takes it, on the CPU."""
    seed: int
    """What torch was seeded with just before the batch: dropout falls as it did."""
    notes: dict[str, Any]
    """What the run knew of it: step, rank, loss."""


def write_batch(folder: Path, kept: KeptBatch) -> None:
    """Write a batch to a folder of its own.

    Values that are neither plain nor a `MediumInfo` are written as their ``repr``, which cannot be read back.
    """
    tensors: dict[str, Tensor] = {}
    content = {"seed": kept.seed, "notes": kept.notes, "batch": _encode(kept.batch, "batch", tensors)}
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / _TENSORS)
    (folder / _REST).write_text(json.dumps(content, ensure_ascii=False))


def read_batch(folder: str | Path) -> KeptBatch:
    """Read what `write_batch` wrote.

    Raises:
        FileNotFoundError: The folder holds no batch.
        ValueError: It holds a value that could not be written.
    """
    path = Path(folder)
    if not (path / _REST).is_file():
        msg = (
            f"got {str(folder)!r}, which holds no {_REST}; expected a folder that a run wrote, such as "
            "runs/<name>/non_finite/step_7_rank_0_batch_0"
        )
        raise FileNotFoundError(msg)
    content = json.loads((path / _REST).read_text())
    return KeptBatch(_decode(content["batch"], load_file(path / _TENSORS)), content["seed"], content["notes"])


def _encode(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401  any batch
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Tensor):
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": {str(key): _encode(each, f"{name}.{key}", tensors) for key, each in value.items()}}
    kind = type(value)
    if kind is MediumInfo:
        return {"class": kind.__name__, "fields": _encode(value._asdict(), name, tensors)}
    if kind in (list, tuple):
        items = [_encode(each, f"{name}.{index}", tensors) for index, each in enumerate(value)]
        return items if kind is list else {"tuple": items}
    return {"repr": repr(value)}


def _decode(value: Any, tensors: dict[str, Tensor]) -> Any:  # noqa: ANN401  any batch
    if isinstance(value, list):
        return [_decode(each, tensors) for each in value]
    if not isinstance(value, dict):
        return value
    if "repr" in value or value.get("class", MediumInfo.__name__) != MediumInfo.__name__:
        got = value["repr"] if "repr" in value else f"the class {value['class']}"
        msg = f"got {got} in a kept batch, expected tensors, plain values and {MediumInfo.__name__}"
        raise ValueError(msg)
    if "class" in value:
        return MediumInfo(**_decode(value["fields"], tensors))
    if "tensor" in value:
        return tensors[value["tensor"]]
    if "tuple" in value:
        return tuple(_decode(each, tensors) for each in value["tuple"])
    return {key: _decode(each, tensors) for key, each in value["dict"].items()}


def batch_ids(batch: Any) -> list[str]:  # noqa: ANN401  any batch
    """The samples of a batch, as far as it names them."""
    ids = batch.get("ids") if isinstance(batch, dict) else None
    return [str(each) for each in ids] if isinstance(ids, list) else []


def current_seed() -> int:
    """What torch was last seeded with: by `ppl`'s train loader, just before each batch."""
    return torch.initial_seed()
