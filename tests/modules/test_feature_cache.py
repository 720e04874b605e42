import pytest
import torch

from ppl.modules.feature_cache import FeatureCache

GRID_BYTES = 2 * 3 * 3 * 4 * 2  # in fp16


def grid():
    return torch.randn(2, 3, 3, 4, requires_grad=True)


def test_grids_come_back_in_the_cache_s_precision():
    cache, kept = FeatureCache(), grid()
    cache.put("a", kept)
    got = cache.get("a")
    assert torch.equal(got, kept.detach().half())
    assert not got.requires_grad
    assert cache.get("b") is None


def test_what_is_kept_is_a_copy():
    cache, kept = FeatureCache(dtype=torch.float32), grid().detach()
    cache.put("a", kept)
    before = kept.clone()
    kept.zero_()
    assert torch.equal(cache.get("a"), before)


def test_the_budget_is_kept_and_refusals_are_counted():
    cache = FeatureCache(max_gib=2.5 * GRID_BYTES / 2**30)
    for key in "abcd":
        cache.put(key, grid())
    assert (len(cache), cache.num_bytes, cache.num_refused) == (2, 2 * GRID_BYTES, 2)
    assert [cache.get(key) is not None for key in "abcd"] == [True, True, False, False]
    cache.put("e", grid()[:1])  # a smaller one still fits
    assert (len(cache), cache.num_bytes, cache.num_refused) == (3, 2 * GRID_BYTES + GRID_BYTES // 2, 2)


def test_a_key_is_kept_once_and_an_empty_one_never():
    cache, first = FeatureCache(dtype=torch.float32), grid().detach()
    cache.put("a", first)
    cache.put("a", grid())
    cache.put("", grid())
    assert (len(cache), cache.num_bytes, cache.num_refused) == (1, 2 * GRID_BYTES, 0)
    assert torch.equal(cache.get("a"), first)
    assert cache.get("") is None


def test_put_returns_what_get_will():
    cache, first = FeatureCache(max_gib=1.5 * GRID_BYTES / 2**30), grid()
    assert torch.equal(cache.put("a", first), cache.get("a"))
    assert torch.equal(cache.put("a", grid()), cache.get("a"))  # the first one stays
    refused = grid()
    assert cache.put("b", refused) is refused
    assert cache.put("", refused) is refused


def test_what_overflows_is_refused_and_counted():
    cache = FeatureCache()
    assert cache.put("a", torch.full((1, 1, 1, 1), 7e4)).item() == 7e4
    assert (cache.get("a"), cache.num_refused) == (None, 1)


def test_a_folder_is_shared_and_needs_no_memory(tmp_path):
    first, second = (FeatureCache(max_gib=0.0, folder=str(tmp_path)) for _ in range(2))
    kept = first.put("a", grid())
    assert torch.equal(second.get("a"), kept)
    assert torch.equal(second.put("a", grid()), kept)  # what is there stays
    assert (second.get("b"), first.num_refused, len(first)) == (None, 0, 0)
    assert FeatureCache(folder=str(tmp_path), dtype=torch.float32).get("a") is None, "another precision, another grid"


def test_what_the_folder_holds_is_read_once(tmp_path):
    FeatureCache(folder=str(tmp_path)).put("a", grid())
    cache = FeatureCache(folder=str(tmp_path))
    got = cache.get("a")
    [file] = tmp_path.rglob("*.safetensors")
    file.unlink()
    assert cache.get("a") is got


def test_a_half_written_file_is_none(tmp_path, monkeypatch):
    """A process killed while writing leaves a file that no other reads."""

    def killed(tensors, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("ppl.modules.feature_cache.save_file", killed)
    with pytest.raises(KeyboardInterrupt):
        FeatureCache(folder=str(tmp_path)).put("a", grid())
    monkeypatch.undo()
    assert list(tmp_path.rglob("*.partial"))
    cache = FeatureCache(folder=str(tmp_path))
    assert cache.get("a") is None
    assert torch.equal(cache.put("a", grid()), cache.get("a"))
