"""FSDP2: weights, gradients and the optimiser's state cut over processes, tensor by tensor."""

from __future__ import annotations

from datetime import timedelta

from lightning import Trainer
from lightning.pytorch.strategies import ModelParallelStrategy
from torch.distributed.tensor import DTensor

from ppl.saving.folders import VerifiedFolders


class FSDP2Strategy(VerifiedFolders, ModelParallelStrategy):
    """Lightning's strategy, with all processes in one data-parallel group unless told otherwise.

    Its own defaults are tensor parallelism within a node, and data parallelism between nodes only.

    Args:
        tensor_parallel_size: Processes that share one batch and cut each layer between them.
        cpu_offload: Keep weights, gradients and the optimiser's state in host memory between uses.
        save_distributed_checkpoint: Each process writes its shards into a folder; false: one writes a file of all.
        process_group_backend: Null: NCCL for GPUs (with gloo for what is offloaded), gloo for CPUs.
        timeout_minutes: For which a collective waits.
    """

    def __init__(
        self,
        tensor_parallel_size: int = 1,
        process_group_backend: str | None = None,
        timeout_minutes: float = 30.0,
        *,
        cpu_offload: bool = False,
        save_distributed_checkpoint: bool = True,
    ) -> None:
        super().__init__(
            tensor_parallel_size=tensor_parallel_size,
            save_distributed_checkpoint=save_distributed_checkpoint,
            process_group_backend=process_group_backend,
            timeout=timedelta(minutes=timeout_minutes),
        )
        self.cpu_offload = cpu_offload

    def setup_environment(self) -> None:
        """Divide all processes by the size of a tensor-parallel group.

        Raises:
            ValueError: They are not a multiple of it.
        """
        assert isinstance(self._tensor_parallel_size, int)
        processes, size = self.num_nodes * self.num_processes, self._tensor_parallel_size
        if processes % size:
            msg = f"got {processes} processes and tensor_parallel_size={size}, expected a multiple of it: set devices"
            raise ValueError(msg)
        self._data_parallel_size = processes // size
        if self.cpu_offload and self._process_group_backend is None and self.root_device.type == "cuda":
            self._process_group_backend = "cpu:gloo,cuda:nccl"  # the norm of offloaded gradients is reduced on the CPU
        super().setup_environment()

    def model_to_device(self) -> None:
        """Move what is left on the CPU; shards stay where they were put."""
        assert self.model is not None
        if not self.cpu_offload:
            super().model_to_device()
            return
        for tensor in [*self.model.parameters(), *self.model.buffers()]:
            if not isinstance(tensor, DTensor):
                tensor.data = tensor.data.to(self.root_device)

    def setup_optimizers(self, trainer: Trainer) -> None:
        """Step through tensors one by one where they lie on several meshes, which torch cannot step through at once."""
        super().setup_optimizers(trainer)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if len({p.device_mesh if isinstance(p, DTensor) else None for p in group["params"]}) > 1:
                    group["foreach"] = False
                    group["fused"] = False
