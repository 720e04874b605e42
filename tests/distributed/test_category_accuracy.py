"""Accuracies over two real processes (gloo) are those of one process on the joined batches."""

import torch
from torch import distributed, multiprocessing

from ppl.modules.category_accuracy import CategoryAccuracy

ROWS = (  # rank 1 never sees "colour", rank 0 never sees "motion"
    (["colour", "colour", "shape"], [True, False, True]),
    (["shape", "motion", "shape"], [False, True, False]),
)


def work(rank, address, results):
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    accuracy = CategoryAccuracy()
    categories, correct = ROWS[rank]
    accuracy.update(categories, torch.tensor(correct))
    results[rank] = accuracy.compute()
    distributed.destroy_process_group()


def test_two_processes_equal_one(tmp_path):
    with multiprocessing.get_context("spawn").Manager() as manager:
        results = manager.dict()
        multiprocessing.spawn(work, args=(f"file://{tmp_path / 'store'}", results), nprocs=2)
        gathered = dict(results)
    alone = CategoryAccuracy()
    for categories, correct in ROWS:
        alone.update(categories, torch.tensor(correct))
    assert gathered[0] == gathered[1] == alone.compute()
    assert gathered[0]["shape"] == torch.tensor(1 / 3).item()
