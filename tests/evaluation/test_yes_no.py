"""Golden vectors of the readings of yes and no, each column with its source.

What these gave for the same texts: lmms-eval 0.7.3's ``tasks/pope/utils.py``, ``pope_process_results``; LLaVA c121f04's
``llava/eval/eval_pope.py``, which is AoiDragon/POPE's script; lmms-eval 0.7.3's ``tasks/mme/utils.py``,
``parse_pred_ans``, which is MME's. The first word is our own, the sane form of the others.
"""

import pytest

from ppl.evaluation.yes_no import beginning_yes_no, exact_yes_no, no_or_else_yes, word_yes_no

VECTORS = [
    # said, lmms POPE, first word (ours), LLaVA's script, MME's
    ("Yes", "yes", "yes", "yes", "yes"),
    (" no ", "no", "no", "no", "no"),
    ("Yes.", None, "yes", "yes", "yes"),
    ("No, there is not.", None, "no", "no", "no"),
    ("NO", "no", "no", "yes", "no"),
    ("", None, None, "yes", None),
    ("y", None, None, "yes", "yes"),
    ("N.", None, None, "yes", "no"),
    ("None", None, None, "yes", "no"),
    ("I know", None, None, "yes", None),
    ("There is no dog.", None, None, "no", None),
    ("There is a dog. Not a cat", None, None, "yes", None),
    ("It is yes", None, None, "yes", None),
    ("**Yes**", None, "yes", "yes", None),
    ("Yesterday", None, None, "yes", "yes"),
]


@pytest.mark.parametrize(("said", "exact", "word", "script", "beginning"), VECTORS)
def test_every_reading_of_the_same_words(said, exact, word, script, beginning):
    assert exact_yes_no(said) == exact
    assert word_yes_no(said) == word
    assert no_or_else_yes(said) == script
    assert beginning_yes_no(said) == beginning
