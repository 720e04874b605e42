from __future__ import annotations

import os
from dataclasses import replace

import pytest
import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ppl.batches import IGNORE_INDEX, MediaText, MediumInfo, PixelFormat
from ppl.datamodules.images import square_frames, tile_image
from ppl.datamodules.processing import DecodedMedium, Processor
from ppl.datamodules.records import MediumRef, Record, Turn

CORPUS = ["USER: what is in the video ASSISTANT: a red square moves left", "It jumps. \u4f60\u597d"] * 30
TURNS = [
    Turn("system", "this is a video ."),
    Turn("user", "<media>\nwhat colour is the square ?"),
    Turn("assistant", "red"),
    Turn("user", "where does it move ?"),
    Turn("assistant", "left and down"),
]


def record(turns=TURNS, media=(), category="colour"):
    return Record("r", list(turns), list(media), category, origin="train.jsonl:3")


def decoded(kind="video", num_frames=3, height=12, width=20, key="k"):
    return DecodedMedium(kind, torch.randint(256, (num_frames, 3, height, width), dtype=torch.uint8), key)


def runs_of_labels(sample):
    """Split the labels that carry loss where they are interrupted."""
    runs, previous = [], False
    for label in sample.labels.tolist():
        if label != IGNORE_INDEX:
            runs = [*runs[:-1], [*runs[-1], label]] if previous else [*runs, [label]]
        previous = label != IGNORE_INDEX
    return runs


def sentencepiece_like():
    """Build what LLaMA's tokenizer is: every text between special tokens starts with a space."""
    built = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    built.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    built.pre_tokenizer = pre_tokenizers.Split("\u2581", "merged_with_next")
    built.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    fallback = [f"<0x{byte:02X}>" for byte in range(256)]
    special = ["<unk>", "<s>", "</s>", "<image>", *fallback]
    built.train_from_iterator(
        CORPUS[:-1:2], trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=built, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def byte_level():
    """Build what Qwen's tokenizer is: bytes, and no token that begins a text."""
    built = Tokenizer(models.BPE())
    built.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    built.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["</s>", "<image>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    built.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=built, eos_token="</s>")


@pytest.fixture(params=[sentencepiece_like, byte_level], scope="module")
def foreign_inputs(request, input_spec):
    tokenizer = request.param()
    tokenizer.add_tokens([AddedToken("<image>", special=True, normalized=False)])
    return replace(input_spec, tokenizer=tokenizer)


@pytest.mark.parametrize("template", ["plain_v1", "vicuna_v1"])
def test_exactly_the_answers_carry_loss(input_spec, template):
    sample = Processor(input_spec, template).encode_decoded(record(), [decoded()])
    decode = input_spec.tokenizer.decode
    assert [decode(run) for run in runs_of_labels(sample)] == ["red </s>", "left and down </s>"]
    trained = sample.labels != IGNORE_INDEX
    assert torch.equal(sample.labels[trained], sample.input_ids[trained])


def test_tokens_are_the_whole_text_s(input_spec):
    sample = Processor(input_spec).encode_decoded(record(), [decoded()])
    text = (
        "<s>this is a video . USER: "
        + "<image>" * 6
        + "\nwhat colour is the square ? ASSISTANT: red</s>USER: where does it move ? ASSISTANT: left and down</s>"
    )
    assert sample.input_ids.tolist() == input_spec.tokenizer(text).input_ids
    assert sample.input_ids.dtype == sample.labels.dtype == torch.int64
    assert (sample.id, sample.category, sample.answer) == ("r", "colour", "left and down")
    assert sample.prompt == "what colour is the square ? where does it move ?"


def test_generation_drops_the_last_answer_only(input_spec):
    processor, medium = Processor(input_spec), decoded()
    whole, prompt = (processor.encode_decoded(record(), [medium], for_generation=flag) for flag in (False, True))
    assert torch.equal(prompt.input_ids, whole.input_ids[: len(prompt.input_ids)])
    assert input_spec.tokenizer.decode(prompt.input_ids).endswith("</s> USER : where does <unk> move ? ASSISTANT :")
    assert (prompt.answer, prompt.prompt) == ("left and down", whole.prompt)
    open_ended = processor.encode_decoded(record(TURNS[:-1]), [medium], for_generation=True)
    assert torch.equal(open_ended.input_ids, prompt.input_ids)
    assert open_ended.answer == ""


@pytest.mark.parametrize("answer", ["It jumps.", "a red square", "\u4f60\u597d", "(b) no", "42\n\nlines"])
def test_other_tokenizers_see_one_text_and_learn_the_answer(foreign_inputs, answer):
    tokenizer = foreign_inputs.tokenizer
    processor, medium = Processor(foreign_inputs), decoded(num_frames=1)
    turns = [
        Turn("user", "<media>\nwhat is it"),
        Turn("assistant", "It"),
        Turn("user", "so"),
        Turn("assistant", answer),
    ]
    whole, prompt = (processor.encode_decoded(record(turns), [medium], for_generation=flag) for flag in (False, True))
    text = f"USER: <image><image>\nwhat is it ASSISTANT: It</s>USER: so ASSISTANT: {answer}</s>"
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    expected = bos + tokenizer(text.replace("<image><image>", "<image>"), add_special_tokens=False).input_ids
    at = expected.index(tokenizer.convert_tokens_to_ids("<image>"))
    assert whole.input_ids.tolist() == expected[:at] + [expected[at]] * 2 + expected[at + 1 :]
    learnt = [tokenizer.decode(run).strip() for run in runs_of_labels(whole)]
    assert learnt == ["It</s>", f"{answer}</s>"]
    assert whole.input_ids.tolist() == prompt.input_ids.tolist() + runs_of_labels(whole)[-1]


@pytest.mark.parametrize(
    ("media", "kinds", "num_frames"),
    [
        ([decoded("image", 1, 8, 40)], ["image"], [3]),
        ([decoded("image", 1), decoded("image", 1)], ["multi_image", "multi_image"], [1, 1]),
        ([decoded("video", 4), decoded("video", 2)], ["video", "video"], [4, 2]),
        ([decoded("video", 4), decoded("image", 1, 16, 16)], ["video", "image"], [4, 5]),
    ],
)
def test_kinds_views_and_counts(input_spec, media, kinds, num_frames):
    turns = [Turn("user", "<media>" * len(media) + " what ?"), Turn("assistant", "red")]
    sample = Processor(input_spec).encode_decoded(record(turns), media)
    assert [info.kind for info in sample.media] == kinds
    assert [info.num_frames for info in sample.media] == num_frames
    assert [info.image_size for info in sample.media] == [tuple(medium.frames.shape[-2:]) for medium in media]
    assert sample.frames.shape == (sum(num_frames), 3, 8, 8)
    is_visual = sample.input_ids == input_spec.tokenizer.convert_tokens_to_ids("<image>")
    assert is_visual.sum() == sum(map(input_spec.num_visual_tokens, sample.media))
    assert (sample.labels[is_visual] == IGNORE_INDEX).all()


def test_text_needs_no_media(input_spec):
    sample = Processor(input_spec).encode_decoded(record([Turn("user", "what ?"), Turn("assistant", "red")]), [])
    assert sample.frames.shape == (0, 3, 8, 8)
    assert sample.media == []


def test_files_are_read_and_keyed_by_their_content_s_identity(input_spec, media_folder):
    processor = Processor(input_spec, num_frames=4)
    clip = str(media_folder / "clip.mp4")

    def info(ref, by=processor) -> MediumInfo:
        return by.encode(record(media=[ref])).media[0]

    whole = info(MediumRef("video", clip))
    assert (whole.kind, whole.num_frames, whole.image_size) == ("video", 4, (32, 48))
    assert info(MediumRef("image", str(media_folder / "wide.png"))).image_size == (16, 32)
    smaller = Processor(replace(input_spec, image_size=4), num_frames=4)
    keys = [
        whole.key,
        info(MediumRef("video", clip, 0.0, 1.0)).key,
        info(MediumRef("video", clip), Processor(input_spec, num_frames=3)).key,
        info(MediumRef("video", clip), smaller).key,
    ]
    assert len(set(keys)) == len(keys)
    os.utime(clip, ns=(0, 0))
    assert info(MediumRef("video", clip)).key == keys[0]


def test_a_part_of_a_video_shows_other_frames(input_spec, media_folder):
    refs = [MediumRef("video", str(media_folder / "clip.mp4"), *clip) for clip in [(0.0, 1.0), (1.0, 2.0)]]
    first, second = (Processor(input_spec, num_frames=2).encode(record(media=[ref])).frames for ref in refs)
    assert first.float().mean() < second.float().mean()


def test_memory_without_key_is_not_cached(input_spec):
    processor = Processor(input_spec)
    assert processor.encode_decoded(record(), [decoded(key="")]).media[0].key == ""
    assert processor.encode_decoded(record(), [decoded(key="k")]).media[0].key.startswith("k|video|8|")


def test_too_long_a_sample_is_refused(input_spec):
    processor = Processor(replace(input_spec, max_length=40))
    message = (
        r"^train\.jsonl:3: got 71 positions \(31 of text, 40 of 1 media\), expected at most max_length=40; sample "
        "fewer frames, pool with a larger kernel or shorten the text$"
    )
    with pytest.raises(ValueError, match=message):
        processor.encode_decoded(record(), [decoded(num_frames=20)])


@pytest.mark.parametrize(
    ("question", "num_media", "found"), [("<media>\nq", 2, 1), ("q", 1, 0), ("<media>\nis <image> a tag", 1, 2)]
)
def test_placeholders_must_match_media(input_spec, question, num_media, found):
    message = rf"^train\.jsonl:3: got {found} placeholders for {num_media} media, expected as many; write <media> once"
    with pytest.raises(ValueError, match=message):
        Processor(input_spec).encode_decoded(record([Turn("user", question)]), [decoded()] * num_media)


def test_unfit_tokenizers_are_refused(input_spec):
    with pytest.raises(ValueError, match=r"got '<video>', 3 tokens .* expected one; change image_token"):
        Processor(replace(input_spec, image_token="<video>"))
    tokenizer = byte_level()
    tokenizer.eos_token = "<image>"
    with pytest.raises(ValueError, match=r"template='plain_v1', which ends answers with '</s>', but .* at '<image>'"):
        Processor(replace(input_spec, tokenizer=tokenizer))
    with pytest.raises(ValueError, match="got num_frames=0, expected at least 1"):
        Processor(input_spec, num_frames=0)


INTERNVL_TEXT = MediaText("<img>", "</img>", "Frame{number}: ", "\n")


def chatml_like():
    """Build a byte-level tokenizer with Qwen's and InternVL's tokens."""
    tokenizer = byte_level()
    special = ["<|im_start|>", "<|im_end|>", "<img>", "</img>"]
    tokenizer.add_tokens([AddedToken(word, special=True, normalized=False) for word in [*special, "<image>"]])
    tokenizer.eos_token = "<|im_end|>"
    return tokenizer


def test_each_frame_has_its_label_and_its_placeholders(input_spec):
    inputs = replace(
        input_spec,
        tokenizer=chatml_like(),
        media_text=INTERNVL_TEXT,
        token_groups=lambda info: [2] * info.num_frames if info.kind == "video" else [3 * info.num_frames],
    )
    turns = [Turn("user", "<media>\n<media>\nwhat"), Turn("assistant", "It jumps.")]
    media = [decoded(num_frames=2), decoded("image", 1, 8, 8)]
    sample = Processor(inputs, "chatml").encode_decoded(record(turns), media)
    views = sample.media[1].num_frames
    text = (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\n"
        "Frame1: <img><image><image></img>\nFrame2: <img><image><image></img>\n"
        + f"<img>{'<image>' * 3 * views}</img>\nwhat<|im_end|>\n<|im_start|>assistant\nIt jumps.<|im_end|>"
    )
    assert sample.input_ids.tolist() == inputs.tokenizer(text, add_special_tokens=False).input_ids
    assert [inputs.tokenizer.decode(run) for run in runs_of_labels(sample)] == ["It jumps.<|im_end|>"]
    assert sample.prompt == "what"


def test_a_note_says_when_frames_were_read(input_spec, media_folder):
    note = MediaText(video_note="\n{num_frames} frames, {duration} seconds, at {times}.")
    processor = Processor(replace(input_spec, tokenizer=chatml_like(), media_text=note), "chatml", num_frames=2)
    turns = [Turn("user", "<media>\nwhat"), Turn("assistant", "It")]
    sample = processor.encode(record(turns, [MediumRef("video", str(media_folder / "clip.mp4"))]))
    text = processor.inputs.tokenizer.decode(sample.input_ids)
    # Frames are on screen at the middles of two halves of 2 s.
    assert "<image>\n2 frames, 2.00 seconds, at 0.50s,1.50s.\nwhat<|im_end|>" in text
    assert sample.prompt == "what"


def test_each_kind_has_its_way_to_a_square(input_spec):
    bars = (9, 9, 9)
    pixels = PixelFormat(video="crop", image="pad", multi_image="squash", bars=bars)
    processor = Processor(replace(input_spec, pixels=pixels, image_grid_pinpoints=()))
    clip, picture = decoded(key="k"), decoded("image", 1, key="k")
    [shown] = processor.prepare([clip])
    assert torch.equal(shown.frames, square_frames(clip.frames, 8, "crop"))
    [alone] = processor.prepare([picture])
    assert torch.equal(alone.frames, square_frames(picture.frames, 8, "pad", bars))
    first, _ = processor.prepare([picture, picture])
    assert torch.equal(first.frames, square_frames(picture.frames, 8, "squash"))
    squashed = Processor(replace(input_spec, image_grid_pinpoints=())).prepare([clip])[0]
    assert shown.info.key != squashed.info.key


def test_several_images_are_tiled_if_the_model_says_so(input_spec):
    pixels = PixelFormat(tiled_kinds=("image", "multi_image"), tiling="closest_aspect")
    canvases = ((8, 8), (8, 16), (16, 16))
    processor = Processor(replace(input_spec, pixels=pixels, image_grid_pinpoints=canvases))
    media = [decoded("image", 1, 8, 16), decoded("image", 1, 9, 9)]
    wide, square = processor.prepare(media)
    assert torch.equal(wide.frames, tile_image(media[0].frames[0], 8, canvases, "closest_aspect"))
    assert len(wide.frames) == 2 + 1
    assert len(square.frames) == 1
