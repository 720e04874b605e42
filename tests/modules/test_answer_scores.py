"""Generated answers of validation questions, against predict's own and against marks by hand."""

import pytest
import torch

from ppl.batches import IGNORE_INDEX
from ppl.modules import answer_scores
from ppl.modules.answer_scores import AnswerScores, last_questions
from ppl.modules.generation import Generation, decode_answers
from tests.modules.tiny import guided_model, make_batch, video


def test_what_comes_before_the_last_answer_moves_to_the_right():
    embeds = torch.arange(2 * 6, dtype=torch.float32).reshape(2, 6, 1)
    no = IGNORE_INDEX
    labels = torch.tensor([[no, 5, no, no, 5, 6], [no, no, 5, no, no, no]])
    questions, mask = last_questions(embeds, labels)
    assert questions[..., 0].tolist() == [[0, 1, 2, 3], [0, 0, 6, 7]]
    assert mask.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1]]


@pytest.fixture(scope="module")
def asked():
    torch.manual_seed(0)
    model = guided_model().eval()
    rows = [([video(4)], "what colour is the square ?", "red"), ([], "is there a red ring ?", "no")]
    generation = Generation(max_new_tokens=3)
    torch.manual_seed(1)
    batch = make_batch(model, *rows)
    torch.manual_seed(1)
    prompts = make_batch(model, *rows, prompts=True)
    tokens = model.generate(model.embed(prompts), prompts["attention_mask"], generation)
    return model, batch, generation, decode_answers(model.backbone.tokenizer, tokens, ())


def test_answers_are_those_of_predict(asked):
    """The references are put in place of the batch's own: the model's own words, so that every mark is known."""
    model, batch, generation, said = asked
    assert any(said), "a model that says nothing shows nothing"
    scores = AnswerScores()
    batch = {**batch, "answers": [said[0], "something else"], "categories": ["a", "b"]}
    scores.update(model, batch, torch.tensor([True, True]), generation)
    found = scores.compute()
    assert (found["exact_match/a"], found["exact_match/b"], found["token_f1/a"]) == (1.0, 0.0, 1.0)
    assert found["exact_match/mean"] == 0.5
    assert scores.compute() == {}


def test_blanks_are_neither_answered_nor_counted(asked):
    model, batch, generation, said = asked
    scores = AnswerScores()
    batch = {**batch, "answers": ["never", said[1]], "categories": ["", "b"]}
    scores.update(model, batch, torch.tensor([False, True]), generation)
    scores.update(model, batch, torch.tensor([False, False]), generation)
    assert scores.compute() == {
        "exact_match/b": 1.0,
        "exact_match/mean": 1.0,
        "token_f1/b": 1.0,
        "token_f1/mean": 1.0,
    }


def test_shared_out_weights_are_refused(asked, monkeypatch):
    model, batch, generation, _ = asked
    monkeypatch.setattr(answer_scores, "is_sharded", lambda part: True)
    with pytest.raises(ValueError, match=r"expected each to have them whole: set model.validation.generate=false"):
        AnswerScores().update(model, batch, torch.tensor([True, True]), generation)
