from __future__ import annotations

import json
import tarfile

import fsspec
import pytest
import torch
from jsonargparse import ArgumentParser
from lightning.pytorch import LightningModule

from ppl.batches import IGNORE_INDEX
from ppl.datamodules.frame_sampling import RandomInSegment
from ppl.datamodules.instruction import InstructionDataModule
from ppl.datamodules.mixture import Source
from tests.quiet import quiet_trainer


class Recorder(LightningModule):
    """Keeps the batches it is given."""

    def __init__(self, input_spec):
        super().__init__()
        self.input_spec = input_spec
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen = {"train": [], "val": [], "test": [], "predict": []}

    def training_step(self, batch):
        self.seen["train"].append(batch)
        return self.weight * 1

    def validation_step(self, batch):
        self.seen["val"].append(batch)

    def test_step(self, batch):
        self.seen["test"].append(batch)

    def predict_step(self, batch):
        self.seen["predict"].append(batch)
        return batch["ids"]

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.fixture
def module(input_spec, media_folder):
    """Make a data module that already knows its model."""

    def make(**files):
        made = InstructionDataModule(media_root=str(media_folder), num_frames=4, num_workers=0, **files)
        made.attach(input_spec)
        return made

    return make


@pytest.fixture
def trainer(tmp_path):
    return quiet_trainer(tmp_path, log_every_n_steps=1)


def test_one_batch_mixes_every_kind(module, write_lines, mixed_items, input_spec):
    data = module(val_files=[write_lines(mixed_items)])
    data.setup("validate")
    (batch,) = data.val_dataloader()
    kinds = [(info.sample, info.kind, info.num_frames) for info in batch["media"]]
    assert kinds == [(0, "image", 3), (1, "multi_image", 1), (1, "multi_image", 1), (2, "video", 4)]
    assert batch["pixel_values"].shape == (9, 3, 8, 8)
    is_visual = batch["input_ids"] == input_spec.tokenizer.convert_tokens_to_ids("<image>")
    assert is_visual.sum(1).tolist() == [8, 6, 8, 0]
    assert (batch["labels"][is_visual] == IGNORE_INDEX).all()
    learnt = [input_spec.tokenizer.decode(row[row != IGNORE_INDEX]) for row in batch["labels"]]
    assert learnt == [f"{answer} </s>" for answer in batch["answers"]]
    assert batch["ids"] == ["photo", "pair", "clip", "words"] == batch["categories"]
    assert batch["prompts"][1:3] == ["is or red ?", "what appears ?"]


def test_predict_pads_left_and_withholds_answers(module, write_lines, mixed_items, input_spec):
    data = module(predict_files=[write_lines(mixed_items)])
    data.setup("predict")
    (batch,) = data.predict_dataloader()
    assert batch["attention_mask"][:, -1].tolist() == [1, 1, 1, 1]
    assert (batch["labels"] == IGNORE_INDEX).all()
    assert {input_spec.tokenizer.decode(row[-2:]) for row in batch["input_ids"]} == {"ASSISTANT :"}
    assert batch["answers"][3] == "yes"


def test_order_follows_the_seed(module, write_lines):
    item = {"conversations": [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "red"}]}
    files = [write_lines([item] * 30)]

    def orders(seed):
        data = module(train_files=files, seed=seed)
        data.setup("fit")
        loader = data.train_dataloader()
        return [[name for batch in loader for name in batch["ids"]] for _ in range(2)]

    first, again = orders(0), orders(0)
    assert first == again != orders(1)
    assert first[0] != first[1]
    assert sorted(first[0]) == sorted(first[1])
    assert len(set(first[0])) == 30


def test_a_trainer_runs_every_stage(module, write_lines, mixed_items, input_spec, media_folder, trainer):
    files = [write_lines(mixed_items)]
    data = InstructionDataModule(files, files, files, files, media_root=str(media_folder), num_frames=2, num_workers=0)
    model = Recorder(input_spec)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data)
    assert {name: len(batches) for name, batches in model.seen.items()} == {
        "train": 1,
        "val": 2,
        "test": 1,
        "predict": 1,
    }
    assert model.seen["train"][0]["pixel_values"].dtype == torch.uint8


def test_training_does_without_validation(write_lines, mixed_items, input_spec, media_folder, trainer):
    data = InstructionDataModule([write_lines(mixed_items)], media_root=str(media_folder), num_frames=2, num_workers=0)
    model = Recorder(input_spec)
    trainer.fit(model, data)
    assert (len(model.seen["train"]), len(model.seen["val"])) == (1, 0)


@pytest.mark.parametrize(
    ("stage", "argument"), [("fit", "train"), ("validate", "val"), ("test", "test"), ("predict",) * 2]
)
def test_a_missing_split_names_its_argument(module, stage, argument):
    message = f"got no {argument}_files, expected at least one annotation file; set data.{argument}_files"
    with pytest.raises(ValueError, match=message):
        module().setup(stage)


def test_loaders_want_setup_first(module, write_lines, mixed_items):
    with pytest.raises(ValueError, match=r"got no train split yet; call setup\('fit'\) before"):
        module(train_files=[write_lines(mixed_items)]).train_dataloader()


def test_missing_media_are_listed_before_training(module, write_lines, mixed_items, media_folder):
    turns = [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "red"}]
    gone = [{"conversations": turns, "image": f"gone{index}.png"} for index in range(12)]
    data = module(train_files=[write_lines([*mixed_items, *gone])])
    with pytest.raises(FileNotFoundError, match="got 12 of 16 media files missing, expected all of them; set") as error:
        data.setup("fit")
    lines = str(error.value).splitlines()
    assert lines[1].startswith(f"  {media_folder / 'gone0.png'} (")
    assert lines[1].endswith("data.jsonl:5)")
    assert lines[-1] == "  and 2 more"
    assert len(lines) == 12


def test_training_records_need_answers_and_predict_records_do_not(module, write_lines):
    files = [write_lines([{"messages": [{"role": "user", "content": "what ?"}]}])]
    with pytest.raises(ValueError, match=r"data\.jsonl:1: got a conversation that ends with a question"):
        module(train_files=files).setup("fit")
    data = module(predict_files=files)
    data.setup("predict")
    assert next(iter(data.predict_dataloader()))["answers"] == [""]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_errors_while_loading_name_the_record(input_spec, write_lines, tmp_path, num_workers):
    (tmp_path / "broken.png").write_bytes(b"not an image")
    turns = [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "red"}]
    files = [write_lines([{"id": "seven", "conversations": turns, "image": "broken.png"}])]
    data = InstructionDataModule(files, num_workers=num_workers)
    data.attach(input_spec)
    data.setup("fit")
    with pytest.raises(ValueError, match="not an image") as error:
        next(iter(data.train_dataloader()))
    told = str(error.value) + "".join(getattr(error.value, "__notes__", []))
    assert f"while loading record 'seven' ({files[0]}:1)" in told


def test_without_a_model_there_is_no_setup(write_lines, mixed_items, media_folder, trainer):
    data = InstructionDataModule([write_lines(mixed_items)], media_root=str(media_folder), num_workers=0)
    with pytest.raises(ValueError, match=r"got no model to fit batches to; run under a trainer, or call attach"):
        data.setup("fit")
    with pytest.raises(TypeError, match=r"Recorder\.input_spec: got None, expected an InputSpec; add the property"):
        trainer.fit(Recorder(None), data)


def test_sources_are_trained_on_by_recipe(write_lines, mixed_items, media_folder, input_spec):
    files = [write_lines(mixed_items)]
    parser = ArgumentParser()
    parser.add_class_arguments(InstructionDataModule, "data")
    sources = [{"path": files[0], "sampling": "end:2", "repeat": 2, "num_frames": 2}]
    parsed = parser.parse_object({"data": {"sources": sources, "media_root": str(media_folder), "num_workers": 0}})
    data = parser.instantiate(parsed).data
    data.attach(input_spec)
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert sorted(batch["ids"]) == ["clip", "clip", "words", "words"]
    assert {info.num_frames for info in batch["media"]} == {2}


def test_sources_replace_train_files(write_lines, mixed_items):
    files = [write_lines(mixed_items)]
    with pytest.raises(ValueError, match="got 1 train_files and 1 sources, expected one of the two; list the files"):
        InstructionDataModule(files, sources=[Source(files[0])])


def test_media_inside_a_tar(media_folder, tmp_path, input_spec):
    shard = tmp_path / "shard.tar"
    turns = [{"from": "human", "value": "what ?"}, {"from": "gpt", "value": "red"}]
    (tmp_path / "a.json").write_text(json.dumps({"conversations": turns}))
    with tarfile.open(shard, "w") as tar:
        tar.add(tmp_path / "a.json", "a.json")
        tar.add(media_folder / "clip.mp4", "a.mp4")
        tar.add(media_folder / "red.png", "a.png")
    beside = write_record(tmp_path, turns, media_folder)
    batches = []
    for path in (shard, beside):
        data = InstructionDataModule(val_files=[str(path)], num_frames=4, num_workers=0)
        data.attach(input_spec)
        data.setup("validate")
        batches += list(data.val_dataloader())
    assert torch.equal(batches[0]["pixel_values"], batches[1]["pixel_values"])
    assert torch.equal(batches[0]["input_ids"], batches[1]["input_ids"])


def test_media_at_urls(media_folder, input_spec, write_lines):
    """Paths relative to a root that is a URL, and such a root relative to another."""
    for name in ("clip.mp4", "red.png"):
        fsspec.filesystem("memory").pipe(f"/store/media/{name}", (media_folder / name).read_bytes())
    parts = [{"type": "video", "video": "clip.mp4"}, {"type": "image", "image": "memory://store/media/red.png"}]
    content = [*parts, {"type": "text", "text": "what ?"}]
    file = write_lines([{"messages": [{"role": "user", "content": content}, {"role": "assistant", "content": "red"}]}])

    def sample(root, own=None):
        data = InstructionDataModule(sources=[Source(file, media_root=own)], media_root=root, num_frames=2)
        data.attach(input_spec)
        return data.dataset("train")[0]

    assert torch.equal(sample("memory://store/media").frames, sample(str(media_folder)).frames)
    assert torch.equal(sample("memory://store", "media").frames, sample(str(media_folder)).frames)
    with pytest.raises(FileNotFoundError):
        sample("memory://store")


def write_record(folder, turns, media_folder):
    """The same record with its media as files of their own."""
    item = {"conversations": turns, "video": str(media_folder / "clip.mp4"), "image": str(media_folder / "red.png")}
    (folder / "beside.jsonl").write_text(json.dumps(item))
    return folder / "beside.jsonl"


def test_preference_pairs_are_not_trained_on_as_conversations(module, write_lines):
    files = [write_lines([{"prompt": "what ?", "chosen": "red", "rejected": "blue"}])]
    with pytest.raises(ValueError, match=r"data\.jsonl:1: got a preference pair .*; expected one answer to learn"):
        module(train_files=files).setup("fit")
    data = module(predict_files=files)
    data.setup("predict")
    assert next(iter(data.predict_dataloader()))["answers"] == ["red"]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_random_sampler_draws_anew_each_epoch_and_only_in_training(
    write_lines, mixed_items, input_spec, media_folder, num_workers
):
    videos = [item for item in mixed_items if "video" in str(item)][:1]
    files = [write_lines(videos)]
    data = InstructionDataModule(
        files, files, media_root=str(media_folder), num_frames=2, num_workers=num_workers, sampler=RandomInSegment()
    )
    data.attach(input_spec)
    data.setup("fit")
    loader = data.train_dataloader()
    epochs = [batch["pixel_values"] for _ in range(7) for batch in loader]
    assert any(not torch.equal(epochs[0], other) for other in epochs[1:])
    plain = InstructionDataModule(files, files, media_root=str(media_folder), num_frames=2, num_workers=0)
    plain.attach(input_spec)
    plain.setup("fit")
    [seen], [expected] = list(data.val_dataloader()), list(plain.val_dataloader())
    assert torch.equal(seen["pixel_values"], expected["pixel_values"])
