"""Weights spread over processes: FSDP2 on blocks, tensor parallelism within them, and the norm of what is spread."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from lightning import Trainer
from lightning.pytorch.strategies import FSDPStrategy
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FullyShardedDataParallel,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
)
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module
from torch.nn.utils import clip_grads_with_norm_, get_total_norm
from torch.optim import Optimizer

from ppl.modules.backbones.base import Backbone
from ppl.modules.execution import Execution, blocks_of, execute
from ppl.modules.gathering import gather_objects
from ppl.modules.lora import lora_parameters
from ppl.modules.video_llm import VideoLLM

_STYLES = {"colwise": ColwiseParallel, "rowwise": RowwiseParallel}
"""Transformers' words for what it does to a layer's weight -> torch's."""


def set_up(model: VideoLLM, execution: Execution, trainer: Trainer, mesh: DeviceMesh | None) -> bool:
    """Have a trainer's model compute as asked and, with a mesh, shard it; returns whether its parameters were replaced.

    A second call, for another of the trainer's functions, changes nothing.

    Args:
        model: As it is to train.
        execution: How its blocks compute.
        trainer: Which is to run it.
        mesh: Of a strategy that leaves sharding to the module.

    Raises:
        ValueError: Answers are to be generated from shards; or as for `execute` and `shard`.
    """
    cut = mesh is not None or isinstance(trainer.strategy, FSDPStrategy)
    if cut and trainer.state.fn == TrainerFn.PREDICTING:
        msg = (
            "got predict with sharded weights, expected whole ones: processes generate for differently many steps, and "
            "would wait for each other; leave the overlay out and give --ckpt_path a consolidated checkpoint"
        )
        raise ValueError(msg)
    if model.is_set_up:
        return False
    model.is_set_up = True
    execute(model, execution)
    if cut and model.cache is not None:
        model.tower_identity()  # a digest of whole weights, which it keeps
    if mesh is not None:
        offload = getattr(trainer.strategy, "cpu_offload", False)
        shard(model, mesh, trainer.precision, cpu_offload=offload)
    return mesh is not None


def shard(model: VideoLLM, mesh: DeviceMesh, precision: str, *, cpu_offload: bool = False) -> None:
    """Spread a model's weights over a mesh, in place: parameters become `DTensor`s, under their old names.

    A unit is gathered where it is called and freed behind it; what is of no unit is of the root, which is gathered once
    a step: frozen towers (how often they are called differs between processes), projector, newline, norms. With
    ``bf16-mixed``, what trains is kept and reduced in float32 and units compute in bfloat16; autocast casts the root's
    weights, as without sharding.

    Args:
        model: As it is to train.
        mesh: With dimensions ``data_parallel`` and ``tensor_parallel``, as Lightning makes it.
        precision: The trainer's.
        cpu_offload: Keep weights, gradients and the optimiser's state in host memory between uses.

    Raises:
        ValueError: The model is quantised, differs between processes, or cannot be cut as asked.
    """
    check_shardable(model)
    if mesh["tensor_parallel"].size() > 1:
        _cut_layers(model.backbone, mesh["tensor_parallel"])
    mixed = precision == "bf16-mixed"
    reduced = torch.float32 if mixed else None
    unit_policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16 if mixed else None, reduce_dtype=reduced)
    root_policy = MixedPrecisionPolicy(reduce_dtype=reduced, cast_forward_inputs=False)
    offload = CPUOffloadPolicy() if cpu_offload else OffloadPolicy()
    scalars = {p for p in model.parameters() if p.ndim == 0}  # which cannot be cut, and are frozen
    for unit in [*units_of(model), model]:
        if precision not in ("bf16-true", "16-true"):
            keep_precise(unit)
        fully_shard(
            unit,
            mesh=mesh["data_parallel"],
            mp_policy=root_policy if unit is model else unit_policy,
            offload_policy=offload,
            ignored_params=scalars,
        )


def units_of(model: VideoLLM) -> list[nn.Module]:
    """The modules to be gathered one by one: each is called equally often in every process.

    These are the decoder's blocks, those of towers that train, and the language model's embedding and head.
    """
    backbone, aligner = model.backbone, model.aligner
    units = blocks_of(backbone.language_model)
    towers = [] if backbone.spec.mixed_kinds else [backbone.vision_tower]  # of which a step may encode any number
    towers += [] if aligner is None or not model.pooler.uses_relevance else [aligner.text_tower]
    for tower in towers:
        units += blocks_of(tower) if any(p.requires_grad for p in tower.parameters()) else []
    embedding, head = backbone.hf.get_input_embeddings(), backbone.hf.lm_head
    return units if embedding.weight is head.weight else [*units, embedding, head]


def keep_precise(module: nn.Module) -> None:
    """Convert what trains to float32, unless it is more precise, in place: in less, small steps are rounded away."""
    for parameter in module.parameters():
        if parameter.requires_grad and torch.finfo(parameter.dtype).bits < 32:
            parameter.data = parameter.data.float()


def check_shardable(model: VideoLLM) -> None:
    """Refuse what shards would make wrong, or hang.

    Raises:
        ValueError: Weights are quantised, processes built different ones, scalars train, or chunks of frames would be
            gathered for one by one.
    """
    named = dict(model.named_parameters())
    if any(not p.is_floating_point() for p in named.values()):
        msg = "got quantization with sharded weights, expected one: leave quantization out, or take overlays/ddp.yaml"
        raise ValueError(msg)
    scalars = [name for name, p in named.items() if p.ndim == 0 and p.requires_grad]
    if scalars:
        msg = f"got scalars that train, {scalars}, expected them frozen: a scalar cannot be cut into shards"
        raise ValueError(msg)
    tower_trains = any(p.requires_grad for p in model.backbone.vision_tower.parameters())
    if tower_trains and model.backbone.frames_per_forward is not None:
        msg = (
            f"got frames_per_forward={model.backbone.frames_per_forward} for a sharded vision tower that trains, "
            "expected null: it saves nothing there, and each chunk would gather the tower"
        )
        raise ValueError(msg)
    start = sum(float(p.detach().flatten()[:8].double().sum()) for p in named.values())
    if len(set(gather_objects([start]))) > 1:
        msg = "got other weights on each process, expected the same to cut into shards: set seed_everything"
        raise ValueError(msg)


def clip_gradients(trainer: Trainer, optimizer: Optimizer, max_norm: float) -> Tensor:
    """Scale an optimiser's gradients to a joint norm of at most ``max_norm``; returns the norm they had.

    FSDP1's shards do not say that they are shards, so that Lightning refuses to clip them; FSDP itself knows.
    """
    root = trainer.strategy.model
    if isinstance(root, FullyShardedDataParallel):
        return root.clip_grad_norm_(max_norm)
    return clip_norm([p for group in optimizer.param_groups for p in group["params"]], max_norm)


def clip_norm(parameters: Iterable[Tensor], max_norm: float) -> Tensor:
    """Scale gradients to a joint norm of at most ``max_norm``; returns the norm they had.

    Unlike torch's own function, over `DTensor`s of several meshes, which tensor parallelism leads to.
    """
    by_mesh: dict[DeviceMesh | None, list[Tensor]] = {}
    for parameter in parameters:
        if parameter.grad is not None:
            mesh = parameter.grad.device_mesh if isinstance(parameter.grad, DTensor) else None
            by_mesh.setdefault(mesh, []).append(parameter)
    norms = [get_total_norm([p.grad for p in group if p.grad is not None]) for group in by_mesh.values()]
    whole = [norm.full_tensor() if isinstance(norm, DTensor) else norm for norm in norms]
    total = torch.linalg.vector_norm(torch.stack(whole)) if whole else torch.zeros(())
    for group in by_mesh.values():
        clip_grads_with_norm_(group, max_norm, total)
    return total


def _cut_layers(backbone: Backbone, mesh: DeviceMesh) -> None:
    """Cut the linear layers of decoder blocks over a mesh, by the plan that transformers has for the language model."""
    config = backbone.hf.config.text_config
    plan: dict[str, str] = config.base_model_tp_plan or {}
    unknown = sorted(set(plan.values()) - set(_STYLES))
    heads = config.num_key_value_heads
    if not plan or unknown or heads % mesh.size() or lora_parameters(backbone.language_model):
        msg = (
            f"got tensor_parallel_size={mesh.size()} for {type(backbone.language_model).__name__} with {heads} heads "
            f"of keys and a plan of {plan} in transformers, expected a plan of {list(_STYLES)}, a divisor of heads, "
            "and no LoRA: set tensor_parallel_size to 1"
        )
        raise ValueError(msg)
    parallelize_module(backbone.language_model, mesh, {path: _STYLES[style]() for path, style in plan.items()})
