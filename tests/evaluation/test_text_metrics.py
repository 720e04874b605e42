import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import squad

from ppl.evaluation.text_metrics import content_words, exact_match, squad_normal, token_f1, wups
from ppl.evaluation.wordnet import WordNet
from tests.evaluation.made_up_wordnet import make_wordnet

TEXTS = st.lists(
    st.sampled_from(["a", "The", "cat", "cat,", "Cat's", "sat", "!", "on", "dog-house", "an", "3.5"]), max_size=7
)


@pytest.fixture(scope="module")
def wordnet(tmp_path_factory):
    return WordNet(make_wordnet(tmp_path_factory.mktemp("wordnet") / "dict"))


@settings(deadline=None, max_examples=50)
@given(TEXTS, TEXTS)
def test_exact_match_and_f1_are_squad_s(said, meant):
    """torchmetrics has the authors' script over again; it computes in single precision and in per cent, hence 1e-4."""
    said, meant = " ".join(said), " ".join(meant)
    answers = {"answers": {"answer_start": [0], "text": [meant]}, "id": "1"}
    theirs = squad({"prediction_text": said, "id": "1"}, answers)
    assert 100 * exact_match(said, meant) == pytest.approx(theirs["exact_match"].item(), abs=1e-4)
    assert 100 * token_f1(said, meant) == pytest.approx(theirs["f1"].item(), abs=1e-4)


def test_what_is_the_same():
    assert squad_normal("The  U.S. flag, an Eagle!") == "us flag eagle"
    assert exact_match("The cat.", "a cat") == 1.0
    assert exact_match("cats", "cat") == 0.0
    assert token_f1("the cat sat down", "a cat") == pytest.approx(2 * (1 / 3) * 1 / (1 / 3 + 1))
    assert token_f1("cat cat", "cat") == pytest.approx(2 / 3)
    assert (token_f1("", ""), token_f1("the", ""), token_f1("", "cat")) == (1.0, 1.0, 0.0)


def test_content_words_are_base_forms_without_those_that_say_nothing(wordnet):
    assert content_words("It's the puppies, and they RAN over there to the dog-house!", wordnet) == [
        "puppy", "run", "over", "dog-house",
    ]  # fmt: skip
    assert content_words("don’t", wordnet) == []
    assert content_words("not", wordnet) == ["not"]


def test_wups_is_that_of_a_count_by_hand(wordnet):
    """dog and cat are alike by 1/2, dog and puppy by 8/9, ball and cat by 2/7, ball and dog by 2/7."""
    assert wups("The dogs ran.", "dog running", 0.9, wordnet) == 1.0
    assert wups("dog", "cat", 0.0, wordnet) == pytest.approx(0.5)
    assert wups("dog", "cat", 0.9, wordnet) == pytest.approx(0.05)
    assert wups("dog", "puppy", 0.8, wordnet) == pytest.approx(8 / 9)
    assert wups("dog ball", "dog", 0.0, wordnet) == pytest.approx(min(1 * 2 / 7, 1))
    assert wups("xyzzy", "xyzzy", 0.0, wordnet) == 1.0
    assert wups("xyzzy dog", "dog", 0.0, wordnet) == 1.0  # NExT-OE passes over what is like nothing
    assert wups("xyzzy", "dog", 0.0, wordnet) == wups("", "dog", 0.0, wordnet) == wups("the", "", 0.0, wordnet) == 0.0


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from(["dog", "cat", "ball", "eat", "walk", "xyzzy", "the"]), max_size=4),
       st.lists(st.sampled_from(["dog", "puppy", "entity", "left"]), max_size=4))  # fmt: skip
def test_wups_is_symmetric_between_0_and_1_and_falls_with_the_threshold(wordnet, said, meant):
    one, other = " ".join(said), " ".join(meant)
    values = [wups(one, other, threshold, wordnet) for threshold in (0.0, 0.5, 0.9)]
    assert values == sorted(values, reverse=True)
    assert 0 <= values[-1] <= values[0] <= 1
    assert wups(other, one, 0.0, wordnet) == values[0]
