import pytest
import torch

from ppl.modules.logprob_store import LogProbStore, pair_keys
from tests.modules.pairs import pair_batch
from tests.modules.tiny import image, plain_model, video


def test_what_was_written_is_read_by_any_process(tmp_path):
    totals = torch.tensor([-1.25, -2.1, -3.0, -0.1])
    first = LogProbStore(tmp_path, "a" * 64, 0)
    first.add(["one", "two"], totals)
    torch.testing.assert_close(first.totals(["two", "one"]), totals[[1, 0, 3, 2]].double(), rtol=0, atol=0)
    LogProbStore(tmp_path, "a" * 64, 1).add(["three"], totals[:2])
    again = LogProbStore(tmp_path, "a" * 64, 0)
    assert "one" not in again
    again.read()
    assert len(again) == 3
    torch.testing.assert_close(again.totals(["one", "two"]), totals.double(), rtol=0, atol=0)
    other = LogProbStore(tmp_path, "b" * 64, 0)
    other.read()
    assert len(other) == 0


def test_a_line_cut_short_by_a_crash_is_left_out_and_does_not_spoil_the_next(tmp_path):
    store = LogProbStore(tmp_path, "a" * 64, 0)
    store.add(["one", "two"], torch.zeros(4))
    whole = store.file.read_text()
    for cut in range(1, len(whole.splitlines()[1]) + 1):
        store.file.write_text(whole[:-cut])
        again = LogProbStore(tmp_path, "a" * 64, 0)
        again.read()
        assert ("one" in again, "two" in again) == (True, cut == 1)  # the line break alone
        again.add(["three"], torch.ones(2))
        last = LogProbStore(tmp_path, "a" * 64, 0)
        last.read()
        assert ("one" in last, "two" in last, "three" in last) == (True, cut == 1, True)


def test_a_key_is_all_that_decides_a_pair_and_nothing_of_its_batch():
    model = plain_model()
    clip, other = video(2, "clip"), video(2, "other")
    pair = ([clip], "what is it ?", "a red ring", "blue")

    def key(*changed):
        return pair_keys(pair_batch(model, changed or pair))[0]

    alone = key()
    batch = pair_batch(model, ([], "is there a ring , or a square ?", "no", "yes yes yes"), pair)
    assert pair_keys(batch)[1] == alone
    for changed in (
        ([other], *pair[1:]),
        ([clip], "what is there ?", *pair[2:]),
        (*pair[:2], "a blue ring", "blue"),
        (*pair[:3], "red"),
        (*pair[:2], "blue", "a red ring"),
    ):
        assert key(*changed) != alone
    pair_keys(pair_batch(model, ([image(40, 40, "picture")], *pair[1:])))


def test_frames_drawn_at_random_are_refused():
    batch = pair_batch(plain_model(), ([video(2, "")], "what is it ?", "red", "blue"))
    with pytest.raises(ValueError, match="got frames of pair 'pair 0' that are others in each epoch"):
        pair_keys(batch)
