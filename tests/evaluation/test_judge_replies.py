"""What a judge may reply. That no verdict is never nought is our own rule: there is no other code to be equal to.

The first form, a bare dictionary, is what Video-ChatGPT's prompts ask for and ``ast.literal_eval`` reads in lmms-eval
0.7.3's ``tasks/activitynetqa/utils.py`` and ``tasks/videochatgpt/utils.py``, ``parse_score``; fences and prose around
it are 0 to these, or end their run.
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.evaluation.judge_replies import read_fields, read_number, read_verdict

YES_4 = {"pred": "yes", "score": 4}


@pytest.mark.parametrize(
    "reply",
    [
        "{'pred': 'yes', 'score': 4}",
        '{"pred": "yes", "score": 4}',
        "```python\n{'pred': 'yes', 'score': 4}\n```",
        '```json\n{"pred": "yes", "score": 4}\n```',
        "Here is my evaluation:\n\n{'pred': 'yes', 'score': 4}\n\nThe answer matches.",
        "{'pred': 'yes',\n 'score': 4,\n}",
        "result = {'pred': 'yes', 'score': 4}; result",
        "{'pred': 'yes', 'score': 4} or, in JSON, {\"pred\": \"yes\", \"score\": 4}",
        '{"evaluation": {"pred": "yes", "score": 4}}',
    ],
)
def test_a_dictionary_is_read_wherever_it_stands(reply):
    assert read_fields(reply) == YES_4
    assert read_verdict(reply) == (True, 4.0)


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        ("{'pred': 'Yes', 'score': 4.8}", (True, 4.8)),
        ("{'pred': 'no', 'score': '0'}", (False, 0.0)),
        ("{pred: yes, score: 3}", (True, 3.0)),
        ("{''pred': 'yes', 'score': 4.8}", (True, 4.8)),
        ("{'pred': “yes”, 'score': 4}", None),
        ("", None),
        ("yes", None),
        ("I cannot evaluate this.", None),
        ("{'pred': 'yes'}", None),
        ("{'score': 4}", None),
        ("{'pred': 'yes', 'sco", None),
        ("{'pred': 'maybe', 'score': 2}", None),
        ("{'pred': 'yes', 'score': 7}", None),
        ("{'pred': 'yes', 'score': -1}", None),
        ("{'pred': 'yes', 'score': True}", None),
        (f"{{'pred': 'yes', 'score': 1{'0' * 400}}}", None),  # no float is as large
        ("{'pred': 'yes', 'score': 'nan'}", None),
        ("{'pred': 'yes', 'score': [4]}", None),
        ("{'pred': 'yes', 'score': 4} {'pred': 'no', 'score': 0}", None),
        ("{[1]: 2}", None),
        ("{}", None),
    ],
)
def test_a_verdict_is_read_or_is_none_and_never_nought(reply, verdict):
    assert read_verdict(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("{'score': 4.8}", 4.8),
        ("{''score': 4.8}", 4.8),  # the example in Video-ChatGPT's prompts, which is no Python
        ('{"score": "3"}', 3.0),
        ("```\n{'score': 2}\n```", 2.0),
        ("4", 4.0),
        (" 4.5\n", 4.5),
        ("Score: 3", 3.0),
        ("**score**: 3", 3.0),
        ("The score is 3. I gave a score: 3.", 3.0),
        ("score: 3, or score: 4", None),
        ("{'score': 3} {'score': 4}", None),
        ("{'score': 6}", None),
        (f'{{"score": 1{"0" * 400}}}', None),
        ("{'grade': 4}", None),
        ("{'score': 4", None),
        ("between 3 and 4", None),
        ("", None),
    ],
)
def test_a_number_is_read_or_is_none(reply, number):
    assert read_number(reply, "score", 0, 5) == number


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet="{}'\":, scorepdys012.\n`[]()-", max_size=60))
def test_no_reply_is_an_error(reply):
    read_verdict(reply)
    number = read_number(reply, "score", 0, 5)
    assert number is None or 0 <= number <= 5


@settings(deadline=None, max_examples=25)
@given(st.sampled_from(["yes", "no"]), st.integers(0, 5), st.text(alphabet="abc \n.,'", max_size=20))
def test_prose_around_a_dictionary_changes_nothing(pred, score, prose):
    assert read_verdict(f"{prose}{{'pred': '{pred}', 'score': {score}}}{prose}") == (pred == "yes", float(score))
