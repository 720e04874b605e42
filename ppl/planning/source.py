"""Where an architecture is read from: planning needs its ``config.json``, no weights and no tokenizer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from huggingface_hub import hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from huggingface_hub.utils import HFValidationError


class Architecture(NamedTuple):
    """A config in transformers' format, and where it came from in words."""

    config: dict[str, Any]
    origin: str


def shipped_configs() -> dict[str, dict[str, Any]]:
    """Architectures of the backbones and aligners in ``recipes/parts``, by hub id, as their hub cards give them.

    Only what differs from the defaults of transformers' config classes; none was downloaded, their numbers of
    parameters are tested against the published ones.
    """
    return json.loads(resources.files("ppl.planning").joinpath("hub_configs.json").read_text(encoding="utf-8"))


def read_architecture(source: str, revision: str = "main") -> Architecture:
    """Find a config: in a folder, among the shipped ones, in the hub's cache or on the hub, in this order.

    Args:
        source: A folder with a ``config.json``, or a hub id.
        revision: Branch, tag or commit of a hub id that is not shipped.

    Raises:
        FileNotFoundError: It is in none of these places.
    """
    file = Path(source) / "config.json"
    if file.is_file():
        return Architecture(json.loads(file.read_text(encoding="utf-8")), str(file))
    shipped = shipped_configs()
    if source in shipped:
        return Architecture(shipped[source], f"shipped with ppl for {source} (ppl/planning/hub_configs.json)")
    try:
        file = Path(hf_hub_download(source, "config.json", revision=revision))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        msg = (
            f"got source={source!r}, expected a folder with a config.json, a hub id that can be reached or is in the "
            f"hub's cache, or one whose architecture is shipped: {', '.join(sorted(shipped))}; name such a "
            "one in the recipe, or for the backbone with --source: the weights are not needed"
        )
        raise FileNotFoundError(msg) from error
    return Architecture(json.loads(file.read_text(encoding="utf-8")), f"{source} on the hub, revision {revision}")


@contextmanager
def architecture_folder(architecture: Architecture) -> Iterator[str]:
    """A folder in the hub's layout for a moment: the config, and a tokenizer of nothing but special tokens.

    Errors that name the folder are made to name where the architecture came from.
    """
    config = architecture.config
    image = config.get("image_token_id", config.get("image_token_index", 0))
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>", "unk_token": "<unk>"}
    words = ["<image>", *dict.fromkeys(special.values())]
    model = {"type": "BPE", "vocab": {word: image + i for i, word in enumerate(words)}, "merges": []}
    files = {
        "config.json": config,
        "tokenizer.json": {"version": "1.0", "added_tokens": [], "model": model | {"unk_token": "<unk>"}},
        "tokenizer_config.json": special | {"tokenizer_class": "PreTrainedTokenizerFast"},
    }
    with TemporaryDirectory() as name:
        for file, content in files.items():
            (Path(name) / file).write_text(json.dumps(content), encoding="utf-8")
        try:
            yield name
        except Exception as error:  # of any kind: it goes on, with other words
            cause: BaseException | None = error
            while cause is not None:
                words = (arg.replace(name, architecture.origin) if isinstance(arg, str) else arg for arg in cause.args)
                cause.args = tuple(words)
                cause = cause.__cause__
            raise
