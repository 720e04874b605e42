from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.batches import IGNORE_INDEX, MediumInfo
from ppl.datamodules.collate import Packing, collate
from ppl.datamodules.processing import Sample


def sample(length, frames=(), name="s"):
    return Sample(
        input_ids=torch.randint(0, 70, (length,)),
        labels=torch.randint(0, 70, (length,)),
        frames=torch.randint(256, (sum(frames), 3, 8, 8), dtype=torch.uint8),
        media=[MediumInfo(0, "video", count, (8, 8), "") for count in frames],
        prompt=f"what is {name} ?",
        id=name,
        category="c",
        answer="a",
    )


def test_padding_sides(input_spec):
    samples = [sample(2), sample(4)]
    for side, attended in [("right", [1, 1, 0, 0]), ("left", [0, 0, 1, 1])]:
        batch = collate(samples, input_spec, side)
        assert batch["attention_mask"].tolist() == [attended, [1, 1, 1, 1]]
        padding = batch["attention_mask"][0] == 0
        assert (batch["input_ids"][0][padding] == input_spec.tokenizer.pad_token_id).all()
        assert (batch["labels"][0][padding] == IGNORE_INDEX).all()


@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 3), max_size=3)), min_size=1, max_size=5),
    st.sampled_from(["left", "right"]),
)
def test_batches_give_their_samples_back(input_spec, shapes, side):
    samples = [sample(length, frames, f"row {row}") for row, (length, frames) in enumerate(shapes)]
    batch = collate(samples, input_spec, side)
    frames = iter(batch["pixel_values"].split([info.num_frames for info in batch["media"]]))
    for row, made in enumerate(samples):
        kept = batch["attention_mask"][row].bool()
        assert torch.equal(batch["input_ids"][row][kept], made.input_ids)
        assert batch["labels"][row][kept].tolist() == [IGNORE_INDEX, *made.labels[1:].tolist()]
        mine = [info for info in batch["media"] if info.sample == row]
        assert [info._replace(sample=0) for info in mine] == made.media
        assert torch.equal(torch.cat([made.frames[:0], *(next(frames) for _ in mine)]), made.frames)
    assert [info.sample for info in batch["media"]] == sorted(info.sample for info in batch["media"])
    assert batch["ids"] == [made.id for made in samples]
    assert batch["prompts"] == [made.prompt for made in samples]
    assert (batch["categories"], batch["answers"]) == (["c"] * len(samples), ["a"] * len(samples))
    assert torch.equal(batch["prompt_ids"], input_spec.tokenize_prompts(batch["prompts"]))


PACKINGS = st.sampled_from([Packing(), Packing(9), Packing(14), Packing(one_row=True)])


@given(
    st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 3), max_size=3)), min_size=1, max_size=5), PACKINGS
)
def test_packed_batches_give_their_samples_back(input_spec, shapes, packing):
    made = {f"s{number}": sample(length, frames, f"s{number}") for number, (length, frames) in enumerate(shapes)}
    batch = collate(list(made.values()), input_spec, "right", packing)
    segments = batch["attention_mask"]
    pieces = [(row, n) for row in range(len(segments)) for n in range(1, int(segments[row].max()) + 1)]
    assert sorted(batch["ids"]) == sorted(made)
    frames = iter(batch["pixel_values"].split([info.num_frames for info in batch["media"]]))
    for number, (name, (row, n)) in enumerate(zip(batch["ids"], pieces, strict=True)):
        [place] = (segments[row] == n).nonzero().T
        assert place.tolist() == list(range(place[0], place[0] + len(place))), "in one piece"
        assert torch.equal(batch["input_ids"][row][place], made[name].input_ids)
        assert batch["labels"][row][place].tolist() == [IGNORE_INDEX, *made[name].labels[1:].tolist()]
        mine = [info for info in batch["media"] if info.sample == number]
        assert [info._replace(sample=0) for info in mine] == made[name].media
        assert torch.equal(torch.cat([made[name].frames[:0], *(next(frames) for _ in mine)]), made[name].frames)
        assert batch["prompts"][number] == made[name].prompt
    assert [info.sample for info in batch["media"]] == sorted(info.sample for info in batch["media"])
    assert (batch["labels"][segments == 0] == IGNORE_INDEX).all()
    longest = {Packing(9): 9, Packing(14): 14}.get(packing, 512)
    assert segments.shape[1] <= longest
    if packing.one_row:
        assert len(segments) == 1
        assert segments.all()


def test_a_sample_longer_than_a_packed_row_is_refused(input_spec):
    with pytest.raises(ValueError, match=r"sample 'long': got 5 positions for packed rows of 4, .*raise row_length"):
        collate([sample(3), sample(5, name="long")], input_spec, "right", Packing(4))


def test_no_media_and_no_aligner(input_spec):
    batch = collate([sample(3)], replace(input_spec, tokenize_prompts=None), "right")
    assert batch["pixel_values"].shape == (0, 3, 8, 8)
    assert batch["pixel_values"].dtype == torch.uint8
    assert (batch["media"], batch["prompt_ids"]) == ([], None)


def test_a_tokenizer_without_padding_is_refused(input_spec):
    bare = SimpleNamespace(pad_token_id=None, name_or_path="bare")
    message = r"got a tokenizer \('bare'\) without padding token, expected one; set tokenizer.pad_token"
    inputs = replace(input_spec, tokenizer=bare)
    with pytest.raises(ValueError, match=message):
        collate([sample(3)], inputs, "right")
