import json

import pytest
import torch
from jsonargparse import ArgumentParser

from ppl.modules.poolers.multi_kernel import MultiKernelPooler, Window
from ppl.modules.poolers.weighted import WeightedPooler

PAPERS = [(Window((1, 6, 6)), Window((8, 2, 2))), (Window((4, 3, 3)), Window((2, 4, 4)))]


@pytest.mark.parametrize("kernels", PAPERS)
def test_the_papers_counts(kernels):
    pooler = MultiKernelPooler(kernels)
    assert pooler.num_tokens((32, 24, 24), "video") == 1088
    assert pooler.output_grid((32, 24, 24), "video") is None


def test_tokens_are_those_of_weighted_poolers_in_the_order_given():
    kernels = (Window((2, 3, 3), (1, 2, 2)), Window((1, 2, 2)), Window((4, 6, 6)))
    grid, relevance = torch.randn(2, 5, 7, 7, 3).double(), 3 * torch.randn(2, 5, 7, 7).double()
    for normalization in ("eq3", "window", "official"):
        for edges in ("drop", "pad"):
            options = {"normalization": normalization, "edges": edges}
            expected = [WeightedPooler(*window, **options)(grid, relevance, "video") for window in kernels]
            pooler = MultiKernelPooler(kernels, **options)
            pooled = pooler(grid, relevance, "video")
            torch.testing.assert_close(pooled, torch.cat(expected, dim=-2))
            assert pooled.shape[-2] == pooler.num_tokens((5, 7, 7), "video")


def test_images_have_their_own_windows_and_stay_a_grid_if_there_is_one():
    pooler = MultiKernelPooler(multi_image_kernels=[Window((1, 2, 2)), Window((1, 3, 3), (1, 1, 1))])
    assert pooler.output_grid((2, 6, 6), "image") == (2, 2, 2)
    assert pooler.output_grid((2, 6, 6), "multi_image") is None
    assert pooler.num_tokens((2, 6, 6), "multi_image") == 2 * 9 + 2 * 16
    assert MultiKernelPooler().output_grid((2, 6, 6), "multi_image") == (2, 2, 2)


def test_a_recipe_gives_windows_by_name_and_defaults_are_written_to_it():
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--pooler", type=MultiKernelPooler)
    path = "ppl.modules.poolers.multi_kernel.MultiKernelPooler"
    given = {"kernels": [{"kernel_size": [4, 3, 3]}, {"kernel_size": [2, 4, 4], "stride": [1, 4, 4]}]}
    config = parser.parse_object({"pooler": {"class_path": path, "init_args": given}})
    written = json.loads(parser.dump(config, format="json"))["pooler"]["init_args"]
    assert written["image_kernels"] == [{"kernel_size": [1, 3, 3], "stride": None}]
    again = parser.parse_object({"pooler": {"class_path": path, "init_args": written}})
    for parsed in (config, again):
        pooler = parser.instantiate(parsed).pooler
        assert pooler.windows == [((4, 3, 3), (4, 3, 3)), ((2, 4, 4), (1, 4, 4))]
        assert pooler.image_windows == [((1, 3, 3), (1, 3, 3))]


def test_unusable_windows_are_errors():
    same = (Window((2, 3, 3)), Window((2, 3, 3), (2, 3, 3)))
    with pytest.raises(
        ValueError, match=r"got kernel_size=\(2, 3, 3\) at stride=\(2, 3, 3\) twice in kernels, expected"
    ):
        MultiKernelPooler(same)
    MultiKernelPooler((Window((2, 3, 3)), Window((2, 3, 3), (1, 3, 3))))  # another stride is another pooling
    with pytest.raises(ValueError, match="got no image_kernels, expected at least one: give a kernel_size"):
        MultiKernelPooler(image_kernels=[])
    with pytest.raises(ValueError, match=r"got kernel_size of image_kernels=\(2, 3, 3\), expected 1 as its first"):
        MultiKernelPooler(image_kernels=[Window((2, 3, 3))])
    with pytest.raises(ValueError, match=r"got stride of multi_image_kernels=\(2, 1, 1\), expected 1 as its first"):
        MultiKernelPooler(multi_image_kernels=[Window((1, 3, 3), (2, 1, 1))])
