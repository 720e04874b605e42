import pytest
import torch

from ppl.modules.feature_cache import Caching, FeatureCache

GRID_BYTES = 2 * 3 * 3 * 4 * 2  # in fp16


def grid():
    return torch.randn(2, 3, 3, 4, requires_grad=True)


def cache_of(grids=1e6, folder=None, storage="float16", compression="none"):
    """Memory for so many grids."""
    return FeatureCache(Caching(float(grids * GRID_BYTES / 2**30), folder and str(folder), storage, compression))


def test_grids_come_back_in_the_cache_s_precision():
    cache, kept = cache_of(), grid()
    cache.put("a", kept)
    got = cache.get("a")
    assert torch.equal(got, kept.detach().half())
    assert not got.requires_grad
    assert cache.get("b") is None


def test_what_is_kept_is_a_copy():
    cache, kept = cache_of(storage="float32"), grid().detach()
    cache.put("a", kept)
    before = kept.clone()
    kept.zero_()
    assert torch.equal(cache.get("a"), before)


def test_the_budget_is_kept_and_refusals_are_counted():
    cache = cache_of(2.5)
    for key in "abcd":
        cache.put(key, grid())
    assert (len(cache), cache.num_bytes, cache.num_refused) == (2, 2 * GRID_BYTES, 2)
    assert [cache.get(key) is not None for key in "abcd"] == [True, True, False, False]
    cache.put("e", grid()[:1])  # a smaller one still fits
    assert (len(cache), cache.num_bytes, cache.num_refused) == (3, 2 * GRID_BYTES + GRID_BYTES // 2, 2)


def test_a_key_is_kept_once_and_an_empty_one_never():
    cache, first = cache_of(storage="float32"), grid().detach()
    cache.put("a", first)
    cache.put("a", grid())
    cache.put("", grid())
    assert (len(cache), cache.num_bytes, cache.num_refused) == (1, 2 * GRID_BYTES, 0)
    assert torch.equal(cache.get("a"), first)
    assert cache.get("") is None


@pytest.mark.parametrize("storage", ["float16", "bfloat16", "float32", "int8"])
@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_put_returns_what_get_will_here_and_elsewhere(tmp_path, storage, compression):
    cache, first = cache_of(1.5 if storage != "float32" else 2.5, tmp_path, storage, compression), grid()
    kept = cache.put("a", first)
    tolerance = first.abs().max() / {"float16": 2**11, "bfloat16": 2**8, "float32": 2**24, "int8": 254}[storage]
    assert (kept.float() - first).abs().max() <= tolerance * (1 + 1e-5)  # half a unit in the last place
    assert torch.equal(kept, cache.get("a"))
    assert torch.equal(cache.put("a", grid()), kept)  # the first one stays
    assert torch.equal(cache_of(0, tmp_path, storage, compression).get("a"), kept)


def test_what_is_refused_comes_back_as_it_was():
    cache, refused = cache_of(0.5), grid()
    assert cache.put("b", refused) is refused
    assert cache.put("", refused) is refused


@pytest.mark.parametrize(("storage", "value"), [("float16", 7e4), ("float32", float("inf")), ("int8", float("nan"))])
def test_what_overflows_is_refused_and_counted(tmp_path, storage, value):
    cache, refused = cache_of(1e6, tmp_path, storage), torch.full((1, 1, 1, 1), value)
    assert cache.put("a", refused) is refused
    assert (cache.get("a"), cache.num_refused) == (None, 1)


def test_a_folder_is_shared_and_needs_no_memory(tmp_path):
    first, second = cache_of(0, tmp_path), cache_of(0, tmp_path)
    kept = first.put("a", grid())
    assert torch.equal(second.get("a"), kept)
    assert torch.equal(second.put("a", grid()), kept)  # what is there stays
    assert (second.get("b"), first.num_refused, len(first)) == (None, 0, 0)
    assert cache_of(0, tmp_path, "float32").get("a") is None, "another precision, another grid"


def test_what_the_folder_holds_is_read_once_if_memory_has_room(tmp_path):
    cache_of(0, tmp_path).put("a", grid())
    cache, without = cache_of(1, tmp_path), cache_of(0, tmp_path)
    got, _ = cache.get("a"), without.get("a")
    [file] = tmp_path.rglob("*.safetensors")
    file.unlink()
    assert torch.equal(cache.get("a"), got)
    assert without.get("a") is None


def test_neither_memory_nor_a_folder_is_an_error():
    for memory in (0.0, -1.0):
        with pytest.raises(ValueError, match="expected a positive size, a folder or both; cache: null keeps nothing"):
            Caching(memory)
