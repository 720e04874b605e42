"""torch's own adaptive pooling and transformers' own resizing are the oracles; bilinear weights also one by one."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel

from ppl.functional.resampling import adaptive_average_pool3d, averaging_matrix, bilinear_resize, bilinear_size

# Double precision leaves only the order of summation: a few 1e-16 times at most 7 tokens an axis.
EXACT = {"atol": 1e-12, "rtol": 1e-12}
sizes = st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7))


def torch_s(features, output_size):
    """AdaptiveAvgPool3d with channels first, as it wants them."""
    batch = features.flatten(0, -5) if features.ndim > 4 else features[None]
    pooled = F.adaptive_avg_pool3d(batch.movedim(-1, 1), output_size).movedim(1, -1)
    return pooled.unflatten(0, features.shape[:-4]) if features.ndim > 4 else pooled[0]


@given(size=sizes, output_size=sizes)
@settings(deadline=None, max_examples=50)
def test_adaptive_averages_are_torch_s_also_when_larger_than_the_grid(size, output_size):
    features = torch.randn(*size, 3, dtype=torch.float64)
    torch.testing.assert_close(adaptive_average_pool3d(features, output_size), torch_s(features, output_size), **EXACT)


@pytest.mark.parametrize("output_size", [(2, 3, 3), (3, 4, 5), (16, 12, 12)], ids=["tiling", "sharing", "larger"])
def test_adaptive_averages_of_a_batch(output_size):
    features = torch.randn(2, 3, 4, 6, 6, 5, dtype=torch.float64)
    torch.testing.assert_close(adaptive_average_pool3d(features, output_size), torch_s(features, output_size), **EXACT)


def test_adaptive_windows_by_hand():
    """Three windows over five tokens: 0-1, 1-3, 3-4; five over two: the middle one holds both."""
    assert averaging_matrix(5, 3, dtype=torch.float64).tolist() == [
        [1 / 2, 1 / 2, 0, 0, 0],
        [0, 1 / 3, 1 / 3, 1 / 3, 0],
        [0, 0, 0, 1 / 2, 1 / 2],
    ]
    assert averaging_matrix(2, 5).tolist() == [[1, 0], [1, 0], [1 / 2, 1 / 2], [0, 1], [0, 1]]


@pytest.mark.parametrize("output_size", [(2, 3, 3), (3, 4, 5)], ids=["tiling", "sharing"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_adaptive_averages_are_in_fp32_also_under_autocast(dtype, output_size):
    features = torch.randn(4, 6, 6, 8).to(dtype)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pooled = adaptive_average_pool3d(features, output_size)
    assert pooled.dtype == dtype
    exact = torch_s(features.double(), output_size)
    # Only the result is rounded to 8 bits; fp32 sums of at most 18 tokens of size 3 are within 1e-6.
    torch.testing.assert_close(pooled.double(), exact, atol=1e-6, rtol=2**-8 if dtype == torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("output_size", [(3, 2, 2), (2, 4, 3)], ids=["tiling", "sharing"])
def test_gradients_of_adaptive_averages(output_size):
    features = torch.randn(3, 4, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: adaptive_average_pool3d(x, output_size), (features,))


def test_adaptive_averages_need_a_window():
    with pytest.raises(ValueError, match=r"output_size=\(2, 0, 2\) has an axis smaller than 1: use integers >= 1"):
        adaptive_average_pool3d(torch.randn(4, 4, 4, 1), (2, 0, 2))


def apply_pooling(features):
    """Transformers' own code on (frames, patches, channels), asked without a model around it."""
    frames, side, _, channels = features.shape
    model = SimpleNamespace(config=SimpleNamespace(vision_config=SimpleNamespace(image_size=14 * side, patch_size=14)))
    return LlavaOnevisionModel.apply_pooling(model, features.reshape(frames, side * side, channels))


@pytest.mark.parametrize("side", [1, 2, 5, 6, 7, 24, 27])
@pytest.mark.parametrize("channels", [3, 64])
def test_halving_is_transformers_bit_by_bit(side, channels):
    features = torch.randn(4, side, side, channels)
    halved = bilinear_resize(features, 2)
    assert halved.shape == (4, math.ceil(side / 2), math.ceil(side / 2), channels)
    assert torch.equal(halved.flatten(1, 2), apply_pooling(features))


def bilinear_weights(extent, count):
    """Half-pixel centres, one target at a time: (lower neighbour, upper neighbour, weight of the upper)."""
    for target in range(count):
        source = max((target + 0.5) * extent / count - 0.5, 0.0)
        lower = min(math.floor(source), extent - 1)
        yield lower, min(lower + 1, extent - 1), source - lower


@given(size=sizes, stride=st.integers(1, 4))
@settings(deadline=None, max_examples=25)
def test_resizing_is_the_mean_of_four_neighbours(size, stride):
    features = torch.randn(2, *size, 2, dtype=torch.float64)
    resized = bilinear_resize(features, stride)
    height, width = math.ceil(size[1] / stride), math.ceil(size[2] / stride)
    assert resized.shape == (2, size[0], height, width, 2)
    assert resized.shape[1:4] == bilinear_size(size, stride)
    for y, (top, bottom, v) in enumerate(bilinear_weights(size[1], height)):
        for x, (left, right, u) in enumerate(bilinear_weights(size[2], width)):
            above = (1 - u) * features[:, :, top, left] + u * features[:, :, top, right]
            below = (1 - u) * features[:, :, bottom, left] + u * features[:, :, bottom, right]
            torch.testing.assert_close(resized[:, :, y, x], (1 - v) * above + v * below, **EXACT)


def test_resizing_is_in_fp32_also_under_autocast():
    features = torch.randn(2, 7, 7, 8).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        resized = bilinear_resize(features, 2)
    assert torch.equal(resized, bilinear_resize(features.float(), 2).bfloat16())


def test_gradients_of_resizing():
    features = torch.randn(2, 5, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: bilinear_resize(x, 2), (features,))


def test_a_stride_below_one_is_an_error():
    with pytest.raises(ValueError, match="stride=0 is smaller than 1: use 1 to keep the size, 2 to halve"):
        bilinear_resize(torch.randn(1, 4, 4, 1), 0)
