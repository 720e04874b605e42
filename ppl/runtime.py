"""Process settings that make CPU runs fast; they must be made before torch is imported."""

from __future__ import annotations

import ctypes
import os
import sys

_KEEP_BELOW = 1 << 30
"""Blocks smaller than this many bytes stay with the process instead of going back to the kernel after each use."""


def configure_process() -> None:
    """Wait passively in OpenMP and keep freed memory.

    By default glibc returns every large tensor's memory to the kernel and faults it in again at the next step, and
    OpenMP threads spin while they wait; on two shared cores that costs half of a small model's step. Values that the
    user has set in the environment are left alone.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    try:
        libc = ctypes.CDLL("libc.so.6")
    except OSError:  # a libc that is not glibc keeps its own policy
        return
    mmap_threshold, trim_threshold, top_pad = -3, -1, -2
    if not libc.mallopt(mmap_threshold, _KEEP_BELOW):
        libc.mallopt(mmap_threshold, 32 << 20)  # the most that older versions accept
    libc.mallopt(trim_threshold, _KEEP_BELOW)
    libc.mallopt(top_pad, 64 << 20)
