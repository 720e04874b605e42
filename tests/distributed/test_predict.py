"""Two real processes (gloo, DDP) answer a benchmark's questions once each, and validate as one process does."""

import os

import pytest
import torch
from lightning import Trainer
from torch import distributed, multiprocessing

from ppl.callbacks.answer_writer import AnswerWriter
from ppl.callbacks.row_writer import RowWriter
from ppl.datamodules.benchmark import BenchmarkDataModule
from ppl.datamodules.synthetic.benchmark_files import write_benchmark
from ppl.datamodules.synthetic.instruction import SyntheticInstructionDataModule
from ppl.evaluation.benchmarks.embedded_world import EmbeddedWorld, Official
from ppl.evaluation.runs import read_run, row_files
from ppl.evaluation.scoring import score
from ppl.modules.answer_scores import Validation
from ppl.modules.generation import Generation
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.sft import SFTModule
from tests.distributed.test_align_gathered import free_port
from tests.modules.tiny import tiny_aligner, tiny_backbone

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
]

QUESTIONS = 7
"""To validate on: 3 of one process and 4 of the other."""


def trainer(folder, **options):
    return Trainer(
        accelerator="cpu",
        callbacks=[RowWriter(), AnswerWriter()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
        **options,
    )


def build():
    torch.manual_seed(0)
    pooler = WeightedPooler((2, 3, 3), None, (1, 3, 3))
    generation = Generation(max_new_tokens=3)
    return SFTModule(
        tiny_backbone(), pooler, tiny_aligner(), generation=generation, validation=Validation(generate=True)
    )


def answer(root, folder, **options):
    data = BenchmarkDataModule(EmbeddedWorld(str(root)), Official(), "plain_v1", num_workers=0)
    trainer(folder, **options).predict(build(), data, return_predictions=False)


def validate(folder, **options):
    """Metrics of the validation split; and what the test split's are told of."""
    sizes = {"num_held_out_videos": 3, "num_held_out_questions": QUESTIONS, "batch_size": 2}
    runner = trainer(folder, **options)
    runner.test(build(), SyntheticInstructionDataModule(**sizes), verbose=False)
    [found] = runner.validate(build(), SyntheticInstructionDataModule(**sizes), verbose=False)
    return found


def forget(folder, keep):
    """Leave only some rows of each file, as a killed run would."""
    for file, number in zip(row_files(folder), keep, strict=True):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:number]))


def work(rank, port, folder):
    """One of two processes, as if `torchrun` had started it."""
    os.environ.update(MASTER_ADDR="localhost", MASTER_PORT=port, NODE_RANK="0", LOCAL_RANK=str(rank))
    both = {"devices": 2, "strategy": "ddp"}
    answer(folder / "world", folder / "two", **both)
    answer(folder / "world", folder / "again", **both)
    distributed.barrier()
    if rank == 0:
        forget(folder / "again", (5, 11))  # of 22 and 11 rows: the second process has nothing left to do
    distributed.barrier()
    answer(folder / "world", folder / "again", **both)
    torch.save(validate(folder / "validated", **both), folder / f"metrics_{rank}.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Of what both processes left; starting them takes longer than their work."""
    folder = tmp_path_factory.mktemp("results")
    write_benchmark(folder / "world", num_videos=3)
    multiprocessing.spawn(work, args=(free_port(), folder), nprocs=2)
    return folder


@pytest.fixture(scope="module")
def texts(folder):
    """What one process answers."""
    answer(folder / "world", folder / "one")
    return {row.id: row.text for row in read_run(folder / "one")}


@pytest.mark.parametrize("run", ["two", "again"])
def test_two_processes_answer_every_question_once(run, folder, texts):
    shards = [file.read_text().splitlines() for file in row_files(folder / run)]
    assert [len(shard) for shard in shards] == [22, 11]
    rows = read_run(folder / run)
    assert len(rows) == len(texts) == 33
    assert {row.id: row.text for row in rows} == texts
    report, _ = score(rows)
    assert (report.answered, report.coverage) == (33, 1.0)


def test_one_process_goes_on_where_two_were_killed(folder, texts):
    forget(folder / "two", (14, 3))
    answer(folder / "world", folder / "two")
    assert [len(file.read_text().splitlines()) for file in row_files(folder / "two")] == [30, 3]
    assert {row.id: row.text for row in read_run(folder / "two")} == texts


def test_an_odd_number_of_samples_counts_once_each(folder):
    """Lightning's sampler would count the first sample twice; every answer is two tokens, so the loss is a mean too."""
    alone = validate(folder / "alone")
    first, second = (torch.load(folder / f"metrics_{rank}.pt") for rank in range(2))
    assert set(alone) == set(first) > {"val/loss", "val/accuracy/mean", "val/exact_match/mean", "val/token_f1/mean"}
    for name, value in alone.items():
        # the same float32 numbers, summed in another order
        assert first[name] == pytest.approx(value, rel=1e-5), name
    assert second["val/loss"] == pytest.approx(alone["val/loss"], rel=1e-5)
    told = [(folder / "validated" / f"answers.{rank}.jsonl").read_text().splitlines() for rank in range(2)]
    assert sorted(told[0] + told[1]) == sorted((folder / "alone" / "answers.jsonl").read_text().splitlines())
    assert len(told[0] + told[1]) == QUESTIONS
