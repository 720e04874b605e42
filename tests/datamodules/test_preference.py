"""LLaVA-Hound's preference data in its exact form, through the data module."""

import json

import pytest
import torch
from lightning.pytorch.utilities.seed import isolate_rng

from ppl.batches import IGNORE_INDEX
from ppl.datamodules.preference import PreferenceDataModule
from ppl.datamodules.resumable import Loading
from tests.datamodules.hound import write_hound
from tests.modules.tiny import plain_model


@pytest.fixture
def model():
    return plain_model()


def data_for(model, file, **options):
    root = str(file.parent / "all_frames")
    data = PreferenceDataModule([str(file)], [str(file)], media_root=root, num_frames=4, num_workers=0, **options)
    data.attach(model.input_spec)
    data.setup("fit")
    return data


def texts(model, batch):
    """What the rows train on, and the whole of them."""
    decode = model.backbone.tokenizer.decode
    answers = [decode(row[row != IGNORE_INDEX]) for row in batch["labels"]]
    return answers, [
        decode(row[mask > 0]) for row, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]


def test_a_batch_has_media_and_prompts_once_a_pair(model, tmp_path):
    file = write_hound(tmp_path)
    data = data_for(model, file, batch_size=3)
    batch = next(iter(data.val_dataloader()))
    assert batch["ids"] == ["v_0_1", "v_1_2", "v_2_3"]
    assert len(batch["input_ids"]) == len(batch["labels"]) == 6
    assert [(m.sample, m.num_frames) for m in batch["media"]] == [(0, 4), (1, 4), (2, 4)]
    assert len(batch["pixel_values"]) == 12
    assert batch["prompts"] == ["what colour is the square ?"] * 3
    assert batch["answers"] == ["red"] * 3
    assert batch["rejected"] == ["blue , and there is a ring in the video"] * 3
    answers, rows = texts(model, batch)
    assert [text.replace("</s>", "").strip() for text in answers] == batch["answers"] + batch["rejected"]
    for better, worse in zip(rows[:3], rows[3:], strict=True):
        assert better.split("ASSISTANT")[0] == worse.split("ASSISTANT")[0]


def test_ten_frames_of_a_folder_are_sampled_as_any_video(model, tmp_path):
    """10 numbered frames, each of its own grey: midpoints of 4 segments are frames 1, 3, 6 and 8."""
    batch = next(iter(data_for(model, write_hound(tmp_path), batch_size=1).val_dataloader()))
    assert batch["pixel_values"].float().mean(dim=(1, 2, 3)).round(decimals=-1).tolist() == [20.0, 60.0, 120.0, 160.0]


def test_prompts_to_predict_are_those_of_any_data_module(model, tmp_path):
    file = write_hound(tmp_path)
    root = str(tmp_path / "all_frames")
    data = PreferenceDataModule(predict_files=[str(file)], media_root=root, num_frames=4, num_workers=0)
    data.attach(model.input_spec)
    data.setup("predict")
    batch = next(iter(data.predict_dataloader()))
    assert "rejected" not in batch
    assert len(batch["input_ids"]) == len(batch["ids"]) == 4
    assert all(row[-1] for row in batch["attention_mask"]), "left padded"


def test_training_goes_on_after_any_batch(model, tmp_path):
    file = write_hound(tmp_path, number=8)

    def loader():
        return data_for(model, file, batch_size=2).train_dataloader()

    whole = [batch["ids"] for batch in loader()]
    assert sorted(name for ids in whole for name in ids) == [f"v_{i}_{i + 1}" for i in range(8)]
    first = loader()
    batches = iter(first)
    seen = [next(batches)["ids"], next(batches)["ids"]]
    second = loader()
    second.load_state_dict(first.state_dict())
    assert seen + [batch["ids"] for batch in second] == whole


def test_a_pair_that_cannot_be_read_is_put_into_quarantine(model, tmp_path):
    file = write_hound(tmp_path)
    for frame in (tmp_path / "all_frames/v_1").iterdir():
        frame.write_bytes(b"no picture")
    loading = Loading(on_bad_sample="quarantine", max_bad_share=0.5)
    data = data_for(model, file, batch_size=2, loading=loading)
    loader = data.train_dataloader()
    ids = [name for batch in loader for name in batch["ids"]]
    assert sorted(ids) == ["v_0_1", "v_2_3", "v_2_3", "v_3_4"]
    train, _ = data.reference_loaders(0, 1)
    assert sorted({name for batch in train for name in batch["ids"]}) == ["v_0_1", "v_2_3", "v_3_4"]
    with pytest.raises(Exception, match=r"cannot identify|image") as error:
        list(data_for(model, file, batch_size=2).train_dataloader())
    assert any("while loading record 'v_1_2'" in note for note in error.value.__notes__)


def test_every_process_gets_a_share_for_the_reference_and_chance_stays(model, tmp_path):
    data = data_for(model, write_hound(tmp_path, number=5), batch_size=2)
    with isolate_rng():
        before = torch.random.get_rng_state()
        shares = [[b["ids"] for b in data.reference_loaders(rank, 2)[0]] for rank in (0, 1)]
        assert torch.equal(torch.random.get_rng_state(), before)
    assert shares == [[["v_0_1", "v_2_3"], ["v_4_5"]], [["v_1_2", "v_3_4"]]]


def test_what_is_no_pair_is_refused(model, tmp_path):
    file = tmp_path / "conversations.jsonl"
    turns = [{"role": "user", "content": "what is it ?"}, {"role": "assistant", "content": "red"}]
    file.write_text(json.dumps({"messages": turns}))
    with pytest.raises(ValueError, match="got a conversation without a worse answer; expected 'prompt', 'chosen' and"):
        data_for(model, file)
    data = data_for(model, write_hound(tmp_path), loading=Loading(packing="rows"))
    with pytest.raises(ValueError, match="got packing='rows' for preference pairs, expected 'none'"):
        data.train_dataloader()
