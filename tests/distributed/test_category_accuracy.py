"""Accuracies over two real processes (gloo) are those of one process on the joined batches."""

import torch
from torch import distributed

from ppl.modules.category_accuracy import CategoryAccuracy

ROWS = (  # rank 1 never sees "colour", rank 0 never sees "motion"
    (["colour", "colour", "shape"], [True, False, True]),
    (["shape", "motion", "shape"], [False, True, False]),
)


def work(rank, folder):
    """What each process does."""
    if not distributed.is_initialized():
        distributed.init_process_group("gloo", rank=rank, world_size=2)
    accuracy = CategoryAccuracy()
    categories, correct = ROWS[rank]
    accuracy.update(categories, torch.tensor(correct))
    torch.save(accuracy.compute(), folder / f"{rank}.pt")


def test_two_processes_equal_one(two_processes, tmp_path):
    two_processes.run(work, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    alone = CategoryAccuracy()
    for categories, correct in ROWS:
        alone.update(categories, torch.tensor(correct))
    assert first == second == alone.compute()
    assert first["shape"] == torch.tensor(1 / 3).item()
