"""Build one of transformers' models from a hub id or a folder, strictly: what does not match is listed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ppl.modules.backbones.hub import local_folder, not_found
from ppl.modules.backbones.mismatches import listing
from ppl.modules.backbones.quantization import Quantization, quantization_config

Initialize = Literal["pretrained", "random"]
Precision = Literal["float32", "bfloat16", "float16"]
Attention = Literal["eager", "sdpa", "flash_attention_2"]


class Loaded(NamedTuple):
    """A model and what belongs to it."""

    hf: Any
    """Typed loosely: transformers' classes share attributes, but no interface that declares them."""
    tokenizer: PreTrainedTokenizerBase
    image_token: str
    """The token of the config's image id."""


def load(
    kind: type[PreTrainedModel],
    source: str,
    initialize: Initialize,
    dtype: Precision,
    attention: Attention | None,
    revision: str,
    context_length: int | None = None,
    quantization: Quantization | None = None,
) -> Loaded:
    """Build a model with its tokenizer, in training mode.

    Under ``torch.device("meta")``, ``random`` takes no memory whatever the size. ``pretrained`` builds the model there
    and then puts the weights in: they stay pages of the checkpoint's files until they are written to, and those of
    another precision than ``dtype`` are converted one by one. `benchmarks.loading` measures the memory it takes.

    Args:
        kind: A ``...ForConditionalGeneration`` class.
        source: A hub id, or a folder in the hub's layout.
        initialize: ``pretrained`` reads weights; ``random`` only config and tokenizer.
        dtype: Precision of the weights.
        attention: Attention implementation; None lets transformers choose.
        revision: Branch, tag or commit of a hub id; folders have none.
        context_length: Positions of the language model; more than its config has are reached by linear scaling of its
            rotary angles (Chen et al. 2023, arXiv:2306.15595), as LLaVA-NeXT-Video does. None: as configured.
        quantization: Bits of the language model's linear layers, through bitsandbytes; on the GPU if there is one.

    Raises:
        FileNotFoundError: A file is neither in the folder, nor in the hub's cache, nor to be had from the hub.
        ValueError: The config is another class's, the weights are not exactly the model's, the tokenizer lacks the
            image token, or there is nothing to quantise or to do it with.
    """
    precision = getattr(torch, dtype)
    quantized = None if quantization is None else quantization_config(quantization, initialize, precision)
    folder = local_folder(source, revision, weights=initialize == "pretrained")
    config = _read_config(kind, source, folder)
    if context_length is not None:
        _lengthen(config, context_length)
    if initialize == "random":
        chosen = {} if attention is None else {"attn_implementation": attention}
        hf: Any = kind._from_config(config, dtype=precision, **chosen)
    else:
        options = {"dtype": precision, "attn_implementation": attention, "quantization_config": quantized}
        hf = _read_weights(kind, source, folder, config, options)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder)
    except OSError as error:
        raise not_found(source, revision, ["tokenizer.json", "tokenizer_config.json"], error) from error
    image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
    if not isinstance(image_token, str):
        msg = (
            f"the tokenizer of {source} has {len(tokenizer)} tokens and none of the config's image token id "
            f"{config.image_token_id}; take tokenizer and config from one checkpoint"
        )
        raise ValueError(msg)
    return Loaded(hf.train(), tokenizer, image_token)


def _read_config(kind: type[PreTrainedModel], source: str, folder: Path) -> Any:  # noqa: ANN401  as `Loaded.hf`
    stored, _ = PreTrainedConfig.get_config_dict(folder)
    assert kind.config_class is not None
    expected, got = kind.config_class.model_type, stored.get("model_type")
    if got != expected:
        msg = (
            f"the config of {source} is of model_type {got!r}, expected {expected!r} for {kind.__name__}: choose the "
            "backbone of its class, or convert a checkpoint of an original repository to transformers' format"
        )
        raise ValueError(msg)
    return kind.config_class.from_pretrained(folder)


def _lengthen(config: Any, context_length: int) -> None:  # noqa: ANN401  as `Loaded.hf`
    """Scale rotary angles so that positions fit; a config that holds enough of them stays as it is.

    Raises:
        ValueError: The angles are scaled already.
    """
    text = config.text_config
    if text.max_position_embeddings >= context_length:
        return
    kind = text.rope_parameters.get("rope_type", "default")
    if kind != "default":
        msg = (
            f"got context_length={context_length} for a language model of {text.max_position_embeddings} positions "
            f"whose rotary angles are scaled already ({kind}), expected at most those; leave context_length out"
        )
        raise ValueError(msg)
    factor = context_length / text.max_position_embeddings
    text.rope_parameters = {**text.rope_parameters, "rope_type": "linear", "factor": factor}
    text.max_position_embeddings = context_length


def _read_weights(
    kind: type[PreTrainedModel], source: str, folder: Path, config: PreTrainedConfig, options: dict[str, Any]
) -> PreTrainedModel:
    with only_a_bar():
        loaded: Any = kind.from_pretrained(
            folder,
            config=config,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # otherwise it raises before saying which; they are an error below
            **options,
        )
    hf, report = loaded
    misshapen = [
        f"{key} (got {list(got)}, expected {list(expected)})" for key, got, expected in report["mismatched_keys"]
    ]
    problems = {
        "missing keys": report["missing_keys"],
        "unexpected keys": report["unexpected_keys"],
        "mismatched keys": misshapen,
    }
    if any(problems.values()):
        lines = "\n".join(f"  {name}: {listing(keys)}" for name, keys in problems.items() if keys)
        msg = f"the weights of {source} do not match {kind.__name__}:\n{lines}"
        raise ValueError(msg)
    return hf


@contextmanager
def only_a_bar() -> Iterator[None]:
    """Of what transformers says while it reads weights, show the progress bar, and that to a terminal only."""
    verbosity, had_bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if had_bar:
            logging.enable_progress_bar()
