from __future__ import annotations

import contextlib
import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from lightning import LightningModule, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader, Dataset
from torch.utils.data._utils.pin_memory import pin_memory

from benchmarks.data import memory_growth
from ppl.datamodules.base import ConversationDataModule
from ppl.datamodules.instruction import InstructionDataModule
from ppl.datamodules.processing import Sample
from ppl.datamodules.resumable import Loading, Place, resumable_loader
from tests.quiet import quiet_trainer

# A run that goes on saves where the first did, as it should.
pytestmark = pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")

NO_FRAMES = torch.zeros(0, 3, 8, 8, dtype=torch.uint8)
NUM_SAMPLES, SIZE = 11, 2
LOADING, ALONE = Loading(), Place()
STEPS = 6  # the last of one sample


class Noise(Dataset):
    """Samples that are different each time they are drawn."""

    def __len__(self):
        return NUM_SAMPLES

    def __getitem__(self, index):
        drawn = torch.randint(1000, (4,)) + random.randrange(1000) * 1000 + np.random.randint(1000) * 10**6
        return Sample(drawn, drawn, NO_FRAMES, [], "", str(index), "", "")


def to_batch(samples):
    ids = torch.stack([sample.input_ids for sample in samples])
    return {"ids": [sample.id for sample in samples], "input_ids": ids, "attention_mask": torch.ones_like(ids)}


def loader(loading=LOADING, place=ALONE, workers=0, seed=5):
    return resumable_loader(Noise(), to_batch, SIZE, workers, seed, loading, place)


class NoiseData(ConversationDataModule):
    def dataset(self, split):
        return Noise()

    def _to_batch(self, side, packing=None):
        return to_batch

    def val_dataloader(self):
        return DataLoader([{"x": 0}], batch_size=None)


class KilledError(Exception):
    pass


class Dropping(LightningModule):
    """Learns from noise with dropout, and writes down what it saw."""

    def __init__(self, kill_at):
        super().__init__()
        self.net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Dropout(0.5), torch.nn.Linear(4, 1))
        self.kill_at = kill_at
        self.seen = []

    def training_step(self, batch, batch_idx):
        loss = self.net(batch["input_ids"].float() / 1e9).square().mean()
        if len(self.seen) == self.kill_at:
            raise KilledError
        self.seen.append((self.current_epoch, batch["ids"], loss.item()))
        return loss

    def validation_step(self, batch, batch_idx):
        torch.rand(3)

    def configure_optimizers(self):
        int(self.trainer.estimated_stepping_batches)  # builds the loader before a checkpoint is read
        return torch.optim.AdamW(self.parameters(), 1e-2)


def fit(folder, every, validate, checkpoint=None, kill_at=-1, **options):
    seed_everything(3, verbose=False)
    module = Dropping(kill_at)
    keep = ModelCheckpoint(dirpath=folder, filename="{step}", save_top_k=-1, every_n_train_steps=every)
    options = {"num_sanity_val_steps": 0, "limit_val_batches": int(validate), "enable_checkpointing": True, **options}
    trainer = quiet_trainer(folder, keep, **options)
    data = NoiseData(SIZE, 0, seed=5)
    with contextlib.suppress(KilledError):
        trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return module.seen


RUNS = {
    "epochs": {"max_epochs": 3},
    "steps": {"max_steps": 14, "max_epochs": -1},
    "short epochs": {"max_epochs": 3, "limit_train_batches": 4},
    "accumulated": {"max_steps": 8, "max_epochs": -1, "accumulate_grad_batches": 2},
}


@pytest.mark.parametrize("validate", [False, True])
@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_run_goes_on_where_it_was_killed(options, validate, tmp_path):
    whole = fit(tmp_path / "whole", None, validate, **options)
    accumulated = options.get("accumulate_grad_batches", 1)
    for kill_at in (3, STEPS, STEPS + 1, 2 * STEPS - 1):  # in the middle of epochs, in their first and last batches
        folder = tmp_path / str(kill_at)
        assert fit(folder, 1, validate, kill_at=kill_at, **options) == whole[:kill_at]
        saved = max(folder.iterdir(), key=lambda path: int(path.stem.removeprefix("step=")))
        again = fit(folder, 1, validate, saved, **options)
        per_epoch = options.get("limit_train_batches", STEPS)
        done = int(saved.stem.removeprefix("step=")) * accumulated
        assert per_epoch % accumulated == 0, "or steps were no fixed number of batches"
        assert again == whole[done:]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_and_chance_depend_on_the_position_alone(workers):
    def values(batches):
        return [(batch["ids"], batch["input_ids"].tolist(), torch.rand(1).item()) for batch in batches]

    first = loader()
    whole = [values(first), values(first)]
    assert whole[0] != whole[1]
    torch.manual_seed(123)
    again = loader(workers=workers)
    again.load_state_dict({"epoch": 0, "position": 2, "layout": again.state_dict()["layout"]})
    batches = iter(again)
    head = values([next(batches)])
    assert again.state_dict()["position"] == 3, "not what the workers have prepared"
    assert head + values(batches) == whole[0][2:]
    assert again.state_dict()["epoch"] == 1
    assert values(again) == whole[1]


def test_bad_samples_are_counted_on_after_a_restart():
    class Broken(Noise):
        def __getitem__(self, index):
            if index in (2, 7):
                raise ValueError(f"{index} is bad")
            return super().__getitem__(index)

    def loads():
        return resumable_loader(Broken(), to_batch, SIZE, 0, 5, Loading("quarantine", max_bad_share=0.5), ALONE)

    first = loads()
    batches = iter(first)
    while not first.metrics()["data/bad_samples"]:
        next(batches)
    again = loads()
    again.load_state_dict(first.state_dict())
    assert again.metrics()["data/bad_samples"] == 1, "the one that was met"
    for _ in (*again, *again):
        pass
    assert again.metrics()["data/bad_samples"] == 2, "each once"
    old = {name: value for name, value in first.state_dict().items() if name != "bad_samples"}
    again.load_state_dict(old)  # of a checkpoint that does not tell


def test_loading_leaves_the_models_chance_alone():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    iter(loader()._loader)
    assert torch.equal(torch.rand(1), expected)


def test_other_data_are_refused_in_the_middle_of_an_epoch():
    state = loader().state_dict() | {"position": 2}
    message = (
        "got a checkpoint after 2 batches of an epoch of {.*'seed': 5.*}, expected the data of this run, {.*'seed': 6"
    )
    with pytest.raises(ValueError, match=message):
        loader(seed=6).load_state_dict(state)
    with pytest.raises(ValueError, match="resume with the same data, batch size, seed and number of processes"):
        loader(place=Place(0, 2)).load_state_dict(state)
    loader(seed=6).load_state_dict(state | {"position": STEPS})


@pytest.mark.parametrize("loading", [Loading(group_by_length=True), Loading(interleave=False)])
def test_a_data_set_that_cannot_tell_is_refused(loading):
    with pytest.raises(TypeError, match="for Noise, which cannot tell kinds and lengths"):
        loader(loading)


@pytest.fixture
def mixture(write_lines, mixed_items, input_spec, media_folder, tmp_path):
    """A data module of 40 records of four kinds, one image of which is broken."""

    def module(workers=0, spec=input_spec, **loading):
        (tmp_path / "broken.png").write_bytes(b"not an image")
        items = [{**item, "id": f"{item['id']}-{copy}"} for copy in range(10) for item in mixed_items]
        items[8]["image"] = str(tmp_path / "broken.png")
        data = InstructionDataModule(
            [write_lines(items)],
            [write_lines(mixed_items, "val.jsonl")],
            media_root=str(media_folder),
            num_frames=2,
            batch_size=4,
            num_workers=workers,
            loading=Loading(**loading),
        )
        data.attach(spec)
        data.setup("fit")
        return data

    def make(workers=0, **loading):
        return module(workers, **loading).train_dataloader()

    make.data = module
    return make


@pytest.mark.parametrize("workers", [0, 2])
def test_a_broken_sample_is_replaced_by_one_of_its_kind(mixture, workers):
    loader = mixture(workers, on_bad_sample="quarantine", max_bad_share=0.1, interleave=False)
    names = [name for batch in loader for name in batch["ids"]]
    assert "photo-2" not in names
    assert names.count("photo-3") == 2
    assert len(names) == 40
    assert loader.metrics()["data/bad_samples"] == 1


def test_one_kind_a_batch(mixture):
    loader = mixture(on_bad_sample="quarantine", max_bad_share=0.1, interleave=False)
    for batch in loader:
        assert len({name.split("-")[0] for name in batch["ids"]}) == 1


def test_grouping_by_length_pads_less(mixture):
    shares = {}
    for grouped in (False, True):
        loader = mixture(on_bad_sample="quarantine", max_bad_share=0.1, group_by_length=grouped)
        assert len(list(loader)) == 10
        shares[grouped] = loader.metrics()["data/padding"]
    assert shares[True] < shares[False] / 2


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("packing", ["rows", "padding_free"])
def test_packing_pads_less(mixture, packing, workers):
    plain, packed = (
        mixture(workers, on_bad_sample="quarantine", max_bad_share=0.1, packing=how) for how in ("none", packing)
    )
    names = [[name for batch in loader for name in sorted(batch["ids"])] for loader in (plain, packed)]
    assert names[0] == names[1], "the same batches"
    metrics, without = packed.metrics(), plain.metrics()
    assert metrics["data/padding_unpacked"] == pytest.approx(without["data/padding"])
    assert metrics["data/padding"] < without["data/padding"] / 2 if packing == "rows" else metrics["data/padding"] == 0


def test_samples_longer_than_a_row_are_replaced(write_lines, input_spec):
    """One of twelve; without quarantine it is an error that names it."""
    texts = [["what", "a"][index % 2] for index in range(12)]
    texts[5] = "what " * 99
    turns = [[{"role": "user", "content": text}, {"role": "assistant", "content": "a"}] for text in texts]
    file = write_lines([{"id": f"r{number}", "messages": messages} for number, messages in enumerate(turns)])

    def batches(**loading):
        data = InstructionDataModule([file], loading=Loading(packing="rows", row_length=64, **loading), num_workers=0)
        data.attach(input_spec)
        data.setup("fit")
        return list(data.train_dataloader())

    names = sorted(name for batch in batches(on_bad_sample="quarantine", max_bad_share=0.1) for name in batch["ids"])
    assert names == sorted([f"r{number}" for number in range(12) if number != 5] + ["r6"])
    with pytest.raises(ValueError, match=r"sample 'r5': got \d+ positions for packed rows of 64, expected it to fit"):
        batches()


@pytest.mark.parametrize("wrong", [{"row_length": 8}, {"row_length": 0, "packing": "rows"}])
def test_the_length_of_no_row_is_refused(wrong):
    with pytest.raises(ValueError, match=r"got row_length=[80] with packing='.*', expected at least 1 with"):
        Loading(**wrong)


def test_evaluation_is_not_packed(mixture):
    data = mixture.data(packing="padding_free")
    assert len(next(iter(data.train_dataloader()))["input_ids"]) == 1
    batch = next(iter(data.val_dataloader()))
    assert len(batch["ids"]) == len(batch["input_ids"]) == 4
    assert batch["attention_mask"].max() == 1


def test_pinning_changes_nothing_but_memory(mixture, monkeypatch):
    """What torch does to a worker's batch where there is a GPU."""
    pinned = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    [loaded, *_] = mixture(on_bad_sample="quarantine", max_bad_share=0.1)._loader
    again = pin_memory(loaded)
    assert repr(again) == repr(loaded)
    assert len(pinned) == 5, "ids, mask, labels, pixels and prompts"
    assert all(type(info.image_size) is tuple for info in again.batch["media"])


@pytest.mark.slow
def test_memory_stays_flat(mixture, input_spec):
    """Samples have 15 kB of frames on average: 140 MB, were they kept after the first thousand."""
    spec = replace(input_spec, image_size=64, image_grid_pinpoints=())
    data = mixture.data(2, spec, on_bad_sample="quarantine", max_bad_share=0.1, packing="rows")
    assert memory_growth(data.train_dataloader(), 10_000)["growth_mib"] < 32


def test_too_many_broken_samples_stop_the_run(mixture):
    with pytest.raises(ValueError, match=r"got 1 bad samples of 40 in epoch 0, .* of at most max_bad_share=0.02"):
        list(mixture(on_bad_sample="quarantine", max_bad_share=0.02))


def test_by_default_a_broken_sample_is_an_error(mixture):
    with pytest.raises(ValueError, match="not an image"):
        list(mixture())
