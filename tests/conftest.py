"""Settings every test runs under.

Nothing of ppl is imported here at module level: jaxtyping's import hook, which checks the shapes in signatures, must
come first.
"""

import os
import random

# Set before the libraries start; what the caller set stays. The models are tiny: one thread is as fast as two.
os.environ.update(
    {
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "Agg",
        "OMP_NUM_THREADS": "1",
        "OMP_WAIT_POLICY": "PASSIVE",
        "TOKENIZERS_PARALLELISM": "false",
    }
    | dict(os.environ)
)

import numpy as np
import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)  # and the order of sums is the same on every machine

# The same examples every time: a failure on one machine is a failure on all.
settings.register_profile("ppl", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("ppl")


@pytest.fixture(autouse=True)
def seeded() -> None:
    random.seed(0)
    np.random.seed(0)  # what libraries draw from
    torch.manual_seed(0)


@pytest.fixture
def in_tmp_path(tmp_path, monkeypatch):
    """Run in an empty folder, so that relative output paths stay out of the checkout."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
