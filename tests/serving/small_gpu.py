"""A part of a model that runs out of memory once, as it does on a GPU that is too small."""

import torch

MESSAGE = "CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has a total capacity of 4 GiB. Including other memory."


def short_of_memory(part, at):
    """Let the forward pass with this number raise."""
    calls = []

    def fail(*_):
        calls.append(1)
        if len(calls) == at + 1:
            raise torch.OutOfMemoryError(MESSAGE)

    part.register_forward_pre_hook(fail)
