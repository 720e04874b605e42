import pytest
import torch

from ppl.serving.out_of_memory import in_words, told
from tests.serving.small_gpu import MESSAGE


def test_what_torch_says_is_cut_to_what_a_user_can_use():
    said = in_words(torch.OutOfMemoryError(MESSAGE))
    assert "(CUDA out of memory. Tried to allocate 2 GiB. GPU 0 has a total capacity of 4 GiB), expected room" in said
    assert "Including" not in said
    assert all(
        option in said for option in ("/budget N", "--budget N", "/pooler NAME", "--num-frames N", "shorter clip")
    )
    assert "(no room), expected" in in_words(torch.OutOfMemoryError("no room"))


def test_a_command_ends_in_words_and_other_errors_stay_as_they_are():
    with pytest.raises(ValueError, match="got less memory than this takes") as raised, told():
        raise torch.OutOfMemoryError(MESSAGE)
    assert isinstance(raised.value.__cause__, torch.OutOfMemoryError)
    with pytest.raises(RuntimeError, match="no luck"), told():
        raise RuntimeError("no luck")
