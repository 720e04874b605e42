import pytest

from ppl.evaluation.chat_completion import Endpoint
from ppl.evaluation.http_judge import HttpJudge
from ppl.evaluation.judge import Request
from ppl.evaluation.judge_cache import JudgeCache
from ppl.evaluation.judge_cost import Estimate, estimate


def test_what_is_known_or_comes_twice_is_not_counted(tmp_path):
    """Of one request of three: 5 bytes of system text are 2 tokens, 4 characters of two bytes each are 2 too."""
    judge = HttpJudge(Endpoint("http://localhost:1/v1", "m"), JudgeCache(tmp_path / "replies.jsonl"))
    known, asked = Request("known", "known"), Request("12345", "üüüü", 10)
    judge.cache.add(judge.identity, known, "reply")
    found = estimate([known, asked, asked], judge)
    assert found == Estimate(requests=3, cached=2, prompt_tokens=4, reply_tokens=10)
    assert found.sent == 1
    assert found.cost(1e6, 2e6) == pytest.approx(4 + 20)
    assert estimate([], judge) == Estimate(0, 0, 0, 0)
