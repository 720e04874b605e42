import numpy as np
import pytest

from ppl.datamodules.synthetic.preference import (
    SyntheticLongAnswerDataModule,
    SyntheticPreferenceDataModule,
    false_answer,
    long_answer,
)
from ppl.datamodules.synthetic.questions import QUESTION_TYPES, ask, vocabulary
from ppl.datamodules.synthetic.world import random_scene
from tests.modules.tiny import guided_model

SMALL = {"num_videos": 3, "num_questions": 24, "num_held_out_videos": 2, "num_held_out_questions": 4, "num_frames": 4}


def drawn(number):
    rng = np.random.default_rng(0)
    for _ in range(number):
        scene = random_scene(rng)
        yield scene, ask(scene, dict.fromkeys(QUESTION_TYPES, 1.0), rng), rng


def test_long_answers_are_true_first_and_half_of_them_false_afterwards():
    true = 0
    for scene, question, rng in drawn(300):
        words = long_answer(scene, question, rng).split()
        assert set(words) <= set(vocabulary())
        assert words[0] == question.answer
        colour, shape = words[words.index("a") + 1 :][:2]
        true += any((thing.colour, thing.shape) == (colour, shape) for thing in scene.objects)
    assert 0.4 < true / 300 < 0.6


def test_false_answers_are_of_the_right_kind():
    kinds = {kind: set() for kind in QUESTION_TYPES}
    for scene, question, rng in drawn(400):
        answer = false_answer(scene, question, rng)
        assert answer != question.answer
        kinds[question.type].add(answer)
        if question.type == "colour":
            assert answer in {thing.colour for thing in scene.objects}
    assert kinds["when"] == {"early", "late"}
    assert kinds["exist"] == {"yes", "no"}
    assert kinds["motion"] == {"left", "right", "up", "down"}
    assert len(kinds["shape"]) == 8


@pytest.fixture
def model():
    return guided_model()


def ready(kind, model, stage):
    data = kind(**SMALL, batch_size=24)
    data.attach(model.input_spec)
    data.setup(stage)
    return data


def test_pairs_are_the_same_questions_with_two_answers(model):
    data = ready(SyntheticPreferenceDataModule, model, "fit")
    (batch,) = data.train_dataloader()
    assert len(batch["input_ids"]) == 48
    assert len(batch["pixel_values"]) == 24 * 4
    assert all(answer != worse for answer, worse in zip(batch["answers"], batch["rejected"], strict=True))
    assert all(" " not in answer for answer in batch["answers"])
    lengths = {len(worse.split()) for worse in batch["rejected"]}
    assert lengths == {1, 11}
    assert all(medium.key for medium in batch["media"])
    again = ready(SyntheticPreferenceDataModule, model, "fit").train_dataloader()
    assert next(iter(again))["rejected"] == batch["rejected"]


def test_prompts_ask_for_short_answers_and_long_ones_train(model):
    for kind in (SyntheticPreferenceDataModule, SyntheticLongAnswerDataModule):
        (batch,) = ready(kind, model, "predict").predict_dataloader()
        assert all(" " not in answer for answer in batch["answers"])
    (batch,) = ready(SyntheticLongAnswerDataModule, model, "fit").train_dataloader()
    assert {len(answer.split()) for answer in batch["answers"]} == {11}
    assert ((batch["labels"] != -100).sum(dim=1) == 12).all(), "the words and the end"
