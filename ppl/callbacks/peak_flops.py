"""What a GPU can compute at most: what model FLOPs utilisation is a share of."""

from __future__ import annotations

import torch

# Dense bfloat16 on tensor cores, operations a second, from NVIDIA's data sheets, which give twice as much "with
# sparsity" for all but the oldest. Lightning's own table (`lightning.fabric.utilities.throughput`, 2.6) is not used: it
# mixes dense numbers with sparse ones (H200, H100 NVL), and does not know the name torch gives an H200.
_DENSE_BF16 = {
    "B200": 2250e12,
    "H200 NVL": 835.5e12,
    "H200": 989.5e12,
    "H100 NVL": 835.5e12,
    "H100 PCIe": 756e12,
    "H100 80GB HBM3": 989.5e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "A40": 149.7e12,
    "A30": 165e12,
    "A10": 125e12,
}
"""By words of torch's name of a device; of several that fit, the longest is meant."""


def peak_flops(device: torch.device) -> float | None:
    """Dense bfloat16 operations a second of a device; None for a CPU, or for a GPU whose data sheet is not at hand."""
    if device.type != "cuda":
        return None
    return peak_of(torch.cuda.get_device_name(device))


def peak_of(name: str) -> float | None:
    """The same, by torch's name of a GPU; a slice of one (MIG) is none that is known."""
    words = name.replace("-", " ").split()
    if "MIG" in words:
        return None
    found = [known for known in _DENSE_BF16 if set(known.split()) <= set(words)]
    return _DENSE_BF16[max(found, key=len)] if found else None
