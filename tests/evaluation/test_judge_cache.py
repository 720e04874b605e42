from concurrent.futures import ThreadPoolExecutor

import pytest

from ppl.evaluation.judge import Request
from ppl.evaluation.judge_cache import JudgeCache, request_key

WHO = {"model": "m", "temperature": 0.0}
REQUEST = Request("s", "u", 64)


def test_replies_are_kept_by_all_that_decides_them():
    others = [
        ({**WHO, "model": "n"}, REQUEST),
        ({**WHO, "temperature": 0.5}, REQUEST),
        (WHO, REQUEST._replace(system="t")),
        (WHO, REQUEST._replace(user="v")),
        (WHO, REQUEST._replace(max_tokens=65)),
        (WHO, Request("su", "", 64)),
    ]
    keys = {request_key(*each) for each in [(WHO, REQUEST), *others]}
    assert len(keys) == 1 + len(others)
    assert request_key({"temperature": 0.0, "model": "m"}, REQUEST) == request_key(WHO, REQUEST)


def test_a_reply_is_found_again_and_nothing_is_written_before_there_is_one(tmp_path):
    file = tmp_path / "a/b/replies.jsonl"
    cache = JudgeCache(file)
    assert cache.get(WHO, REQUEST) is None
    assert not file.parent.exists()
    cache.add(WHO, REQUEST, "{'score': 4}\n»ü«")
    assert cache.get(WHO, REQUEST) == JudgeCache(file).get(WHO, REQUEST) == "{'score': 4}\n»ü«"


@pytest.mark.parametrize("rest", range(1, 60, 7))
def test_a_line_that_a_crash_cut_loses_itself_alone(tmp_path, rest):
    file = tmp_path / "replies.jsonl"
    cache = JudgeCache(file)
    cache.add(WHO, REQUEST, "first")
    kept = len(file.read_bytes())
    cache.add(WHO, REQUEST._replace(user="v"), "second")
    file.write_bytes(file.read_bytes()[: kept + rest])
    cache = JudgeCache(file)
    assert (cache.get(WHO, REQUEST), cache.get(WHO, REQUEST._replace(user="v"))) == ("first", None)
    cache.add(WHO, REQUEST._replace(user="w"), "third")
    cache.add(WHO, REQUEST._replace(user="v"), "again")
    cache = JudgeCache(file)
    assert [cache.get(WHO, REQUEST._replace(user=user)) for user in "uvw"] == ["first", "again", "third"]


def test_lines_of_something_else_are_no_replies(tmp_path):
    file = tmp_path / "replies.jsonl"
    file.write_text('\n[]\n{"key": 1}\n{"key": "k", "reply": null}\n')
    assert JudgeCache(file).get(WHO, REQUEST) is None


def test_threads_do_not_write_into_each_other_s_lines(tmp_path):
    cache = JudgeCache(tmp_path / "replies.jsonl")
    asked = [REQUEST._replace(user=f"{i}" * 200) for i in range(40)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda request: cache.add(WHO, request, request.user), asked))
    again = JudgeCache(tmp_path / "replies.jsonl")
    assert [again.get(WHO, request) for request in asked] == [request.user for request in asked]
