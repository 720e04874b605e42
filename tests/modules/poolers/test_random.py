import pytest
import torch

from ppl.modules.poolers.random import RandomPooler


def chosen(pooler, size, kind):
    """Places of the kept patches."""
    grid = torch.arange(float(size[0] * size[1] * size[2])).view(*size, 1)
    return pooler(grid, None, kind).flatten().int().tolist()


def test_the_same_patches_of_every_medium_of_a_size():
    pooler = RandomPooler(20)
    places = chosen(pooler, (4, 6, 6), "video")
    assert len(places) == 20
    assert places == sorted(set(places))
    torch.manual_seed(5)
    assert chosen(RandomPooler(20), (4, 6, 6), "video") == places
    assert chosen(RandomPooler(20, seed=1), (4, 6, 6), "video") != places
    grid = torch.randn(2, 3, 4, 6, 6, 5)
    assert torch.equal(pooler(grid, None, "video"), grid.flatten(2, 4)[:, :, places])


def test_training_s_random_numbers_are_left_alone():
    state = torch.get_rng_state()
    RandomPooler(20)(torch.zeros(4, 6, 6, 1), None, "video")
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(("kind", "count"), [("image", 7), ("multi_image", 5)])
def test_each_view_has_a_draw_of_its_own(kind, count):
    pooler = RandomPooler(20, 7, 5)
    places = chosen(pooler, (3, 6, 6), kind)
    views = [[p - 36 * v for p in places if p // 36 == v] for v in range(3)]
    assert [len(view) for view in views] == [count] * 3
    assert views[0] != views[1]
    assert chosen(pooler, (1, 6, 6), kind) == views[0]


@pytest.mark.parametrize("kind", ["video", "image", "multi_image"])
def test_what_fits_is_kept_whole(kind):
    pooler = RandomPooler(144, 36)
    grid = torch.randn(4, 6, 6, 3)
    assert torch.equal(pooler(grid, None, kind), grid.flatten(0, 2))
    assert pooler.output_grid((4, 6, 6), kind) == (4, 6, 6)
    assert RandomPooler(143, 35).output_grid((4, 6, 6), kind) is None


def test_as_many_as_weighted_pooling_leaves():
    assert RandomPooler().num_tokens((32, 24, 24), "video") == 1024
    assert RandomPooler().num_tokens((5, 24, 24), "image") == 5 * 64


@pytest.mark.parametrize("name", ["keep", "image_keep", "multi_image_keep"])
def test_keeping_nothing_is_refused(name):
    with pytest.raises(ValueError, match=f"got {name}=0, expected patches to keep: use an integer >= 1"):
        RandomPooler(**{name: 0})
