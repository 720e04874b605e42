"""Build one of transformers' models from a hub id or a folder, strictly: what does not match is listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from huggingface_hub.constants import HF_HUB_CACHE
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

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
) -> Loaded:
    """Build a model with its tokenizer, in training mode.

    Under ``torch.device("meta")``, ``random`` takes no memory whatever the size.

    Args:
        kind: A ``...ForConditionalGeneration`` class.
        source: A hub id, or a folder in the hub's layout.
        initialize: ``pretrained`` reads weights; ``random`` only config and tokenizer.
        dtype: Precision of the weights.
        attention: Attention implementation; None lets transformers choose.
        revision: Branch, tag or commit of a hub id; folders have none.
        context_length: Positions of the language model; more than its config has are reached by linear scaling of its
            rotary angles (Chen et al. 2023, arXiv:2306.15595), as LLaVA-NeXT-Video does. None: as configured.

    Raises:
        FileNotFoundError: A file is neither in the folder, nor in the hub's cache, nor to be had from the hub.
        ValueError: The config is another class's, the weights are not exactly the model's, or the tokenizer lacks the
            image token.
    """
    precision = getattr(torch, dtype)
    config = _read_config(kind, source, revision)
    if context_length is not None:
        _lengthen(config, context_length)
    if initialize == "random":
        chosen = {} if attention is None else {"attn_implementation": attention}
        hf: Any = kind._from_config(config, dtype=precision, **chosen)
    else:
        hf = _read_weights(kind, source, config, precision, attention, revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision)
    except OSError as error:
        raise _not_found(source, "tokenizer.json and tokenizer_config.json", error) from error
    image_token = tokenizer.convert_ids_to_tokens(config.image_token_id)
    if not isinstance(image_token, str):
        msg = (
            f"the tokenizer of {source} has {len(tokenizer)} tokens and none of the config's image token id "
            f"{config.image_token_id}; take tokenizer and config from one checkpoint"
        )
        raise ValueError(msg)
    return Loaded(hf.train(), tokenizer, image_token)


def _read_config(kind: type[PreTrainedModel], source: str, revision: str) -> Any:  # noqa: ANN401  as `Loaded.hf`
    try:
        stored, _ = PreTrainedConfig.get_config_dict(source, revision=revision)
    except OSError as error:
        raise _not_found(source, "config.json", error) from error
    if not stored:
        raise _not_found(source, "config.json")
    assert kind.config_class is not None
    expected, got = kind.config_class.model_type, stored.get("model_type")
    if got != expected:
        msg = (
            f"the config of {source} is of model_type {got!r}, expected {expected!r} for {kind.__name__}: choose the "
            "backbone of its class, or convert a checkpoint of an original repository to transformers' format"
        )
        raise ValueError(msg)
    return kind.config_class.from_pretrained(source, revision=revision)


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
    kind: type[PreTrainedModel],
    source: str,
    config: PreTrainedConfig,
    dtype: torch.dtype,
    attention: Attention | None,
    revision: str,
) -> PreTrainedModel:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        loaded: Any = kind.from_pretrained(
            source,
            config=config,
            dtype=dtype,
            attn_implementation=attention,
            revision=revision,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # otherwise it raises before saying which; they are an error below
        )
    except OSError as error:
        raise _not_found(source, "model.safetensors, or its shards and index", error) from error
    finally:
        logging.set_verbosity(verbosity)
    hf, report = loaded
    problems = {key: sorted(map(str, report[key])) for key in ("missing_keys", "unexpected_keys", "mismatched_keys")}
    if any(problems.values()):
        lines = "\n".join(f"  {key.replace('_', ' ')}: {', '.join(keys)}" for key, keys in problems.items() if keys)
        msg = f"the weights of {source} do not match {kind.__name__}:\n{lines}"
        raise ValueError(msg)
    return hf


def _not_found(source: str, files: str, error: OSError | None = None) -> FileNotFoundError:
    looked = "in that folder" if Path(source).is_dir() else f"in the hub's cache ({HF_HUB_CACHE}) or on the hub"
    reason = "" if error is None else f" ({str(error).strip().splitlines()[0]})"
    return FileNotFoundError(
        f"got source={source!r}, but found no {files} {looked}{reason}; without network, put the repository's files "
        "into a folder and set source to it, or bring them into the cache with `hf download` where there is network"
    )
