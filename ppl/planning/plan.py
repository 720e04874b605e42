"""Everything `ppl plan` says, as plain numbers: the table and the JSON are both made of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from ppl.modules.sft import SFTModule
from ppl.planning.activations import Layer, Numbers
from ppl.planning.batch_memory import batch_bytes
from ppl.planning.media import IMAGE_SIZE, MediumTokens, count_medium
from ppl.planning.memory import CONTEXT, per_gpu
from ppl.planning.recipe import Recipe
from ppl.planning.sample_work import Text, sample_work
from ppl.planning.sizes import adapter_precision, language_layer, unified_precision
from ppl.planning.weights import Weight, kept_size, states, strategies, weights_of

DEFAULT_FRAMES = 32
LORA_DROPOUT = 0.05
"""Of adapters that the recipe does not have, as recipes/overlays/lora.yaml has."""


@dataclass(frozen=True)
class Options:
    """What the recipe does not say."""

    gpus: int = 8
    gpu_memory: float = 80.0
    """GiB."""
    prompt_tokens: int = 100
    answer_tokens: int = 100
    lora_rank: int = 128

    def __post_init__(self) -> None:
        """Refuse what cannot be.

        Raises:
            ValueError: A number is not positive.
        """
        for name, value in asdict(self).items():
            if value <= 0:
                msg = f"got --{name.replace('_', '-')} {value:g}, expected a positive number"
                raise ValueError(msg)


def make_plan(module: SFTModule, recipe: Recipe, origin: str, options: Options) -> dict[str, Any]:
    """Compute all of it from a module on the meta device.

    Args:
        module: What `ppl.planning.recipe.build_model` returned.
        recipe: Its recipe.
        origin: Where the backbone's architecture came from.
        options: The rest.

    Raises:
        ValueError: The pooler's windows do not fit the frames.
    """
    notes: list[str] = []
    num_frames = _from_data(recipe, "num_frames", DEFAULT_FRAMES, notes)
    batch_size = _from_data(recipe, "batch_size", 1, notes)
    quantization = recipe.model["init_args"]["backbone"]["init_args"].get("quantization")
    if quantization:
        notes.append(f"quantization: {quantization} is not planned: weights are counted in the recipe's precision; "
                     "FSDP does not cut such weights")  # fmt: skip
    precision = unified_precision(recipe.trainer.get("precision"))
    if recipe.model["init_args"].get("lora") and adapter_precision(precision) != precision:
        notes.append(f"LoRA does not train in {precision}: planned in {adapter_precision(precision)}; set it with "
                     "--trainer.precision or -c recipes/overlays/lora.yaml")  # fmt: skip
    text = Text(options.prompt_tokens, options.answer_tokens)
    video = count_medium(module.model, "video", num_frames)
    work = {
        name: sample_work(module.model, video, text, is_pooled=name == "pooled").as_numbers()
        for name in ("unpooled", "pooled")
    }
    ratios = {stage: work["unpooled"][stage] / value for stage, value in work["pooled"].items() if value}
    return {
        "model": {
            "class": f"{type(module).__module__}.{type(module).__name__}",
            "backbone": type(module.model.backbone).__name__,
            "architecture": origin,
            "pooler": type(module.model.pooler).__name__,
            "pool_site": module.model.pool_site,
            "num_frames": num_frames,
            "batch_size": batch_size,
            "precision": precision,
        },
        "parameters": _parameters(module),
        "tokens": _tokens(module, video, num_frames),
        "sequence": _sequence(module, video, text, notes),
        "flops": work | {"ratio": ratios},
        "memory": _memory(module, recipe, precision, video, text, batch_size, options),
        "notes": notes,
    }


def _from_data(recipe: Recipe, name: str, default: int, notes: list[str]) -> int:
    value = recipe.data.get("init_args", {}).get(name)
    if value is None:
        notes.append(f"the recipe's data has no {name}: {default} was taken; set it with --data.{name}")
        return default
    return value


def _parameters(module: SFTModule) -> dict[str, Any]:
    parts = [
        {
            "name": part.name,
            "parameters": sum(p.numel() for p in part.parameters),
            "trainable": sum(p.numel() for p in part.parameters if p.requires_grad),
            "learning_rate": part.learning_rate,
        }
        for part in module.parts
    ]
    everything = list(module.parameters())
    rest = sum(p.numel() for p in everything) - sum(part["parameters"] for part in parts)
    trained = sum(p.numel() for p in everything if p.requires_grad)
    if rest:
        beside = trained - sum(part["trainable"] for part in parts)
        parts.append({"name": "other", "parameters": rest, "trainable": beside, "learning_rate": None})
    total = sum(p.numel() for p in everything)
    backbone = sum(p.numel() for p in module.model.backbone.parameters())
    return {"total": total, "backbone": backbone, "trainable": trained, "parts": parts}


def _tokens(module: SFTModule, video: MediumTokens, num_frames: int) -> dict[str, Any]:
    image, several = (count_medium(module.model, kind) for kind in ("image", "multi_image"))
    return {
        "video": {"frames": num_frames, "pooled": video.pooled, "unpooled": video.unpooled,
                  "per_frame": video.pooled / num_frames, "per_frame_unpooled": video.unpooled / num_frames},
        "image": {"size": list(IMAGE_SIZE), "views": image.frames, "pooled": image.pooled, "unpooled": image.unpooled},
        "each_of_several_images": {"views": several.frames, "pooled": several.pooled, "unpooled": several.unpooled},
    }  # fmt: skip


def _sequence(module: SFTModule, video: MediumTokens, text: Text, notes: list[str]) -> dict[str, Any]:
    limit = module.model.backbone.max_length
    words = video.text + text.prompt + text.answer
    lengths = {"pooled": video.pooled + words, "unpooled": video.unpooled + words}
    if lengths["pooled"] > limit:
        notes.append(
            f"too long: {lengths['pooled']} positions, the language model was configured for {limit}; take fewer "
            "frames (--data.num_frames), larger windows (--model.pooler.kernel_size) or, where the backbone has it, a "
            "larger --model.backbone.context_length"
        )
    around = {"media_text": video.text, "prompt": text.prompt, "answer": text.answer}
    return around | lengths | {"limit": limit, "fits": lengths["pooled"] <= limit}


def _memory(
    module: SFTModule,
    recipe: Recipe,
    precision: str,
    video: MediumTokens,
    text: Text,
    batch_size: int,
    options: Options,
) -> dict[str, Any]:
    rows = []
    is_quantized = bool(recipe.model["init_args"]["backbone"]["init_args"].get("quantization"))
    for training, held_in, shape, weights in _variants(module, recipe, precision, options.lora_rank):
        first = next(w for w in weights if w.unit == 0)  # of the first block of the decoder
        for is_checkpointed in (False, True):
            for strategy in strategies(held_in, is_quantized=is_quantized):
                size, is_fsdp = kept_size(first, held_in, strategy), strategy in ("fsdp1", "fsdp2")
                numbers = Numbers.of(held_in, size, is_fsdp=is_fsdp, has_adapters=shape.lora_rank > 0)
                batch = batch_bytes(
                    module.model, shape, numbers, video, text, batch_size,
                    is_checkpointed=is_checkpointed, is_padded=batch_size > 1,
                )  # fmt: skip
                memory = per_gpu(states(weights, held_in, strategy), strategy, options.gpus, *batch)
                head = {"training": training, "precision": held_in, "strategy": strategy}
                head |= {"gpus": 1 if strategy == "single" else options.gpus, "checkpointing": is_checkpointed}
                fits = memory.fits(options.gpu_memory * 2**30)
                rows.append(head | asdict(memory) | {"total": memory.total, "fits": fits})
    return {"gpu_memory": options.gpu_memory * 2**30, "context": CONTEXT, "batch_size": batch_size, "rows": rows}


def _variants(
    module: SFTModule, recipe: Recipe, precision: str, rank: int
) -> Iterator[tuple[str, str, Layer, list[Weight]]]:
    """Name, precision, layer and weights of the recipe, and of the recipe with adapters where it has none."""
    lora = recipe.model["init_args"].get("lora") or {}
    layer, _ = language_layer(module.model.backbone, lora.get("dropout", 0.0))
    mixed = adapter_precision(precision)
    if layer.lora_rank:
        yield f"LoRA {layer.lora_rank}", mixed, layer, weights_of(module)
        return
    yield "as the recipe", precision, layer, weights_of(module)
    if any(p.requires_grad for p in module.model.backbone.language_model.parameters()):
        adapted = replace(layer, lora_rank=rank, lora_dropout=LORA_DROPOUT)
        yield f"LoRA {rank}", mixed, adapted, weights_of(module, rank)
