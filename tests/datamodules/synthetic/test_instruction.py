from itertools import pairwise

import pytest
import torch

from ppl.datamodules.processing import Processor
from ppl.datamodules.resumable import Loading
from ppl.datamodules.synthetic.instruction import QuestionMix, SyntheticInstructionDataModule, SyntheticQuestions
from ppl.datamodules.synthetic.questions import QUESTION_TYPES
from ppl.datamodules.synthetic.world import render
from tests.modules.tiny import guided_model, plain_model, tiny_aligner

COUNTS = {"num_videos": 6, "num_questions": 20, "num_held_out_videos": 6, "num_held_out_questions": 20}
SPLITS = ["train", "val", "test", "predict"]


@pytest.fixture(scope="module")
def inputs():
    return guided_model().input_spec


@pytest.fixture
def made(inputs):
    def make(**options):
        data = SyntheticInstructionDataModule(**COUNTS, **options)
        data.attach(inputs)
        return data

    return make


def examples(data, split):
    dataset = data.dataset(split)
    return [dataset.example(i) for i in range(len(dataset))]


@pytest.mark.parametrize("split", SPLITS)
def test_a_seed_gives_the_same_samples(made, split):
    first, second = (made(seed=3).dataset(split) for _ in range(2))
    for a, b in zip([first[i] for i in range(5)], [second[i] for i in range(5)], strict=True):
        assert torch.equal(a.input_ids, b.input_ids)
        assert torch.equal(a.frames, b.frames)
        assert (a.answer, a.prompt, a.category) == (b.answer, b.prompt, b.category)


def test_the_seed_changes_training_and_nothing_held_out(made):
    first, second = made(seed=0), made(seed=1)
    assert examples(first, "train") != examples(second, "train")
    for split in ("val", "test", "predict"):
        assert examples(first, split) == examples(second, split)


def test_no_video_is_in_two_splits(made):
    data = made()
    scenes = {split: set(data.dataset(split).scenes) for split in ("train", "val", "test")}
    assert all(len(found) == 6 for found in scenes.values())
    assert not scenes["train"] & scenes["val"]
    assert not scenes["train"] & scenes["test"]
    assert not scenes["val"] & scenes["test"]
    assert examples(data, "predict") == examples(data, "test")


def test_a_sample_is_its_example(made, inputs):
    data = made(num_frames=5)
    dataset = data.dataset("train")
    for index in (0, 7, 19):
        scene, question, video = dataset.example(index)
        sample = dataset[index]
        assert video == index % 6
        assert torch.equal(sample.frames, torch.from_numpy(render(scene)))
        assert len(sample.frames) == 5
        assert (sample.prompt, sample.answer, sample.category) == (question.text, question.answer, question.type)
        learned = sample.labels[sample.labels != -100]
        assert inputs.tokenizer.decode(learned).removesuffix("</s>").strip() == question.answer
        (medium,) = sample.media
        assert int((sample.input_ids == inputs.tokenizer.convert_tokens_to_ids("<image>")).sum()) == (
            inputs.num_visual_tokens(medium)
        )


@pytest.mark.parametrize("split", SPLITS)
def test_a_preamble_stands_before_the_same_question(made, split):
    plain, long = (made(preamble_words=words).dataset(split) for words in (0, 90))
    for index in (0, 7, 19):
        without, within = plain.example(index), long.example(index)
        assert within.question._replace(text=without.question.text) == without.question
        words = within.question.text.split()
        assert words[90:] == without.question.text.split()
        assert long[index].prompt == within.question.text
        assert long.example(index) == within, "drawn anew each time"


@pytest.mark.parametrize(("held_out", "expected"), [(None, 5), (0, 0), (30, 30)])
def test_held_out_preambles_are_as_long_as_those_of_training_unless_told_otherwise(made, held_out, expected):
    data = made(preamble_words=5, held_out_preamble_words=held_out)
    plain = made()
    for split in SPLITS:
        more = len(data.dataset(split).example(3).question.text.split())
        more -= len(plain.dataset(split).example(3).question.text.split())
        assert more == (5 if split == "train" else expected)


def test_questions_after_90_words_lie_past_clip_s_trained_positions(made):
    aligner, long, plain = tiny_aligner(), made(preamble_words=90).dataset("test"), made().dataset("test")
    for index in range(20):
        ids, short = (aligner.tokenize([dataset[index].prompt]) for dataset in (long, plain))
        assert ids.shape[1] == short.shape[1] + 90
        assert 77 < ids.shape[1] < aligner.text_tower.context_length
        assert torch.equal(ids[:, 91:], short[:, 1:]), "91: the start token and the preamble"


def test_the_tiny_language_model_holds_every_patch_and_90_words(made):
    """The Processor refuses what is longer than the model's context, so a sample is the proof."""
    data = SyntheticInstructionDataModule(**COUNTS, preamble_words=90)
    data.attach(plain_model().input_spec)
    longest = max(len(sample.input_ids) for sample in data.dataset("test"))
    assert 8 * 6 * 6 + 90 < longest <= data.inputs.max_length == 512


def test_feature_cache_keys_tell_videos_apart(made):
    """Two questions about one video share a key; another video, split or length never does."""
    train, val, short = made().dataset("train"), made().dataset("val"), made(num_frames=4).dataset("train")
    keys = [dataset[i].media[0].key for dataset in (train, val, short) for i in range(6)]
    assert len(set(keys)) == 18
    assert train[0].media[0].key == train[6].media[0].key


def test_predict_samples_end_before_the_answer(made, inputs):
    prompt, whole = made().dataset("predict")[0], made().dataset("test")[0]
    assert len(prompt.input_ids) < len(whole.input_ids)
    assert torch.equal(whole.input_ids[: len(prompt.input_ids)], prompt.input_ids)
    assert prompt.answer == whole.answer


def test_held_out_questions_come_in_equal_shares_and_training_ones_by_the_mix(inputs):
    only = QuestionMix(**dict.fromkeys(QUESTION_TYPES, 0.0) | {"when": 1.0})
    data = SyntheticInstructionDataModule(
        num_videos=3, num_questions=30, num_held_out_videos=3, num_held_out_questions=700, mix=only
    )
    data.attach(inputs)
    assert {example.question.type for example in examples(data, "train")} == {"when"}
    counts = [sum(e.question.type == kind for e in examples(data, "val")) for kind in QUESTION_TYPES]
    assert min(counts) > 60


def test_an_index_outside_is_an_error(inputs):
    """Otherwise iterating over the dataset would never end."""
    dataset = SyntheticQuestions(Processor(inputs, num_frames=2), 0, 2, 3, QuestionMix(), prompt=False)
    assert len(list(dataset)) == 3
    with pytest.raises(IndexError):
        dataset[-1]


def test_loading_is_that_of_every_data_module(made):
    """By length: no sample is longer than those of the batch before it, within the one stretch that is sorted."""
    data = made(loading=Loading(group_by_length=True, interleave=False), batch_size=5)
    data.setup("fit")
    dataset = data.dataset("train")
    assert dataset.lengths() == [len(dataset[index].input_ids) for index in range(20)]
    assert len(set(dataset.lengths())) > 1
    assert dataset.kinds() == ["video"] * 20
    spans = sorted(
        (min(n), max(n)) for n in ([int(row.sum()) for row in b["attention_mask"]] for b in data.train_dataloader())
    )
    assert all(high <= low for (_, high), (low, _) in pairwise(spans))
    assert dataset.name(3) == (dataset[3].id, "synthetic question 3 of seed 0")
