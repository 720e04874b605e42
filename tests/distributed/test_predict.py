"""Two real processes (gloo, DDP) answer a benchmark's questions once each, and validate as one process does."""

import pytest
import torch
from torch import distributed

from ppl.callbacks.answer_writer import AnswerWriter
from ppl.callbacks.row_writer import RowWriter
from ppl.datamodules.benchmark import BenchmarkDataModule
from ppl.datamodules.synthetic.benchmark_files import write_benchmark
from ppl.datamodules.synthetic.contrastive import SyntheticContrastiveDataModule
from ppl.datamodules.synthetic.instruction import SyntheticInstructionDataModule
from ppl.datamodules.synthetic.preference import SyntheticPreferenceDataModule
from ppl.evaluation.benchmarks.embedded_world import EmbeddedWorld, Official
from ppl.evaluation.runs import read_run, row_files
from ppl.evaluation.scoring import score
from ppl.modules.align import AlignModule
from ppl.modules.answer_scores import Validation
from ppl.modules.dpo import DPOModule
from ppl.modules.generation import Generation
from ppl.modules.poolers.weighted import WeightedPooler
from ppl.modules.preference_losses import SimPO
from ppl.modules.sft import SFTModule
from tests.modules.tiny import tiny_aligner, tiny_backbone
from tests.quiet import quiet_trainer

pytestmark = [
    pytest.mark.filterwarnings("ignore:Attribute '.*' is an instance of `nn.Module`:UserWarning"),
]

QUESTIONS = 7
"""To validate on: 3 of one process and 4 of the other."""


def trainer(folder, **options):
    return quiet_trainer(folder, RowWriter(), AnswerWriter(), **options)


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


def validate_pairs(folder, **options):
    """Metrics of as many preference pairs."""
    module = DPOModule(tiny_backbone(), WeightedPooler((2, 3, 3), None, (1, 3, 3)), SimPO(), aligner=tiny_aligner())
    sizes = {"num_held_out_videos": 3, "num_held_out_questions": QUESTIONS, "batch_size": 2}
    [found] = trainer(folder, **options).validate(module, SyntheticPreferenceDataModule(**sizes), verbose=False)
    return found


def validate_alignment(folder, **options):
    """Metrics of batches of frames, one more than processes."""
    module = AlignModule(tiny_backbone(), tiny_aligner())
    data = SyntheticContrastiveDataModule(num_held_out_batches=3, batch_size=4)
    [found] = trainer(folder, **options).validate(module, data, verbose=False)
    return found


OTHERS = {"pairs": validate_pairs, "alignment": validate_alignment}


def forget(folder, keep):
    """Leave only some rows of each file, as a killed run would."""
    for file, number in zip(row_files(folder), keep, strict=True):
        file.write_text("".join(file.read_text().splitlines(keepends=True)[:number]))


def work(rank, folder):
    """What each process does."""
    both = {"devices": 2, "strategy": "ddp"}
    answer(folder / "world", folder / "two", **both)
    answer(folder / "world", folder / "again", **both)
    distributed.barrier()
    if rank == 0:
        forget(folder / "again", (5, 11))  # of 22 and 11 rows: the second process has nothing left to do
    distributed.barrier()
    answer(folder / "world", folder / "again", **both)
    torch.save(validate(folder / "validated", **both), folder / f"metrics_{rank}.pt")
    for name, each in OTHERS.items():
        torch.manual_seed(0)
        torch.save(each(folder / name, **both), folder / f"{name}_{rank}.pt")


@pytest.fixture(scope="module")
def folder(two_processes, tmp_path_factory):
    """Of what both processes left."""
    folder = tmp_path_factory.mktemp("results")
    write_benchmark(folder / "world", num_videos=3)
    two_processes.run(work, folder)
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


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_left_over_counts_once_in_other_validations(name, folder):
    torch.manual_seed(0)
    alone = OTHERS[name](folder / "alone")
    for rank in range(2):
        found = torch.load(folder / f"{name}_{rank}.pt")
        assert found.keys() == alone.keys() > {"val/loss"}
        for metric, value in alone.items():
            assert found[metric] == pytest.approx(value, rel=1e-5, abs=1e-6), metric  # sums in another order
