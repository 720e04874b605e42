"""Read checkpoints of unknown origin: tensors, plain values and where they are, and nothing that would run."""

from __future__ import annotations

import pickle
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import BytesStorageMetadata, Metadata

SHARDS = ".metadata"
"""File of a folder of shards: where each tensor is."""
_NAMES = {
    ("collections", "OrderedDict"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    *(
        ("torch.distributed.checkpoint.metadata", name)
        for name in (
            *("BytesStorageMetadata", "ChunkStorageMetadata", "Metadata", "MetadataIndex", "StorageMeta"),
            *("TensorProperties", "TensorStorageMetadata", "_MEM_FORMAT_ENCODING"),
        )
    ),
}
"""All that the description of shards is made of, dtypes apart."""


def read_file(path: Path) -> dict[str, Any]:
    """A checkpoint's tensors and plain values; tensors stay in the file until they are used.

    Raises:
        ValueError: It holds anything else, or is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError) as error:  # no archive of torch's, or one that was cut off
        msg = (
            f"{path} is no checkpoint, or one that is damaged or was not written to its end, expected one that "
            f"`ppl fit` wrote: name another, or copy it again ({str(error).splitlines()[0]})"
        )
        raise ValueError(msg) from error
    except pickle.UnpicklingError as error:
        msg = (
            f"{path} holds more than tensors and plain values, or is no checkpoint at all; expected one that `ppl fit` "
            "wrote (a module built in Python stores live objects in place of its recipe: train it by the CLI)"
        )
        raise ValueError(msg) from error


def read_description(folder: Path) -> Metadata:
    """Places and shapes of what a folder of shards holds; torch's own reader runs whatever that file says.

    Raises:
        ValueError: The file says anything else.
    """
    with (folder / SHARDS).open("rb") as file:
        try:
            found = _Unpickler(file, folder).load()
        except (pickle.UnpicklingError, EOFError) as error:
            msg = f"{folder / SHARDS} is damaged ({error}), expected places and shapes of tensors; name another folder"
            raise ValueError(msg) from error
    if not isinstance(found, Metadata):
        msg = f"{folder / SHARDS} holds {type(found).__name__}, expected places and shapes of tensors; name another"
        raise ValueError(msg)
    return found


def check_harmless(path: Path) -> None:
    """Refuse a checkpoint, a file or a folder of shards, that torch would run something of; it opens nothing else.

    Of folders torch reads tensors safely, and runs whatever other values say (learning rates, say, of an optimiser).

    Raises:
        ValueError: It holds more than tensors and plain values.
    """
    if path.is_file():
        read_file(path)
    if not (path / SHARDS).is_file():
        return
    description = read_description(path)
    for index, stored in (description.storage_data or {}).items():
        is_tensor = not isinstance(description.state_dict_metadata.get(index.fqn), BytesStorageMetadata)
        if is_tensor and not stored.transform_descriptors:
            continue
        with (path / stored.relative_path).open("rb") as file:
            file.seek(stored.offset)
            value = BytesIO(file.read(stored.length))
        try:
            torch.load(value, weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            msg = (
                f"{index.fqn} in {path / stored.relative_path} is more than a plain value, expected what a run of "
                "`ppl fit` saves; it is not opened, since that could run what it says"
            )
            raise ValueError(msg) from error


class _Unpickler(pickle.Unpickler):
    """Reads descriptions of shards and nothing that would run."""

    def __init__(self, file: Any, folder: Path) -> None:  # noqa: ANN401  a binary file
        super().__init__(file)
        self.folder = folder

    def find_class(self, module_name: str, global_name: str) -> Any:  # noqa: ANN401  a class
        """Only what such descriptions are made of.

        Raises:
            ValueError: It is something else.
        """
        dtype = module_name == "torch" and isinstance(getattr(torch, global_name, None), torch.dtype)
        if not dtype and (module_name, global_name) not in _NAMES:
            msg = (
                f"{self.folder / SHARDS} holds {module_name}.{global_name}, expected only places and shapes of "
                "tensors; it is not opened, since that could run what it says"
            )
            raise ValueError(msg)
        return super().find_class(module_name, global_name)
