import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.int8 import dequantize, quantize


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), exponent=st.integers(-30, 30), outlier=st.sampled_from([1.0, 50.0]))
def test_errors_are_at_most_a_254th_of_the_channel_s_largest_size(seed, exponent, outlier):
    torch.manual_seed(seed)
    grid = torch.randn(2, 3, 3, 5) * 10.0**exponent
    grid[..., 1] *= outlier
    multiples, scale = quantize(grid)
    assert (multiples.dtype, multiples.shape, scale.shape) == (torch.int8, grid.shape, (5,))
    for channel in range(5):
        values = grid[..., channel].double()
        error = (dequantize(multiples, scale)[..., channel].double() - values).abs().max()
        assert error <= values.abs().max() / 254 * (1 + 1e-5)  # float32 rounds the scale, the quotient, the product


def test_by_hand():
    grid = torch.tensor([[127.0, 0.0, -1.0], [-63.4, 0.0, 0.5], [1.6, 0.0, 0.1]])
    multiples, scale = quantize(grid)
    assert multiples.tolist() == [[127, 0, -127], [-63, 0, 64], [2, 0, 13]]
    assert torch.allclose(scale, torch.tensor([1.0, torch.finfo(torch.float32).tiny, 1 / 127]))
    assert torch.allclose(dequantize(multiples, scale)[1], torch.tensor([-63.0, 0.0, 64 / 127]))


def test_half_precision_is_read_in_full():
    grid = torch.tensor([[6e4], [1.0]], dtype=torch.float16)  # 127 multiples of 472 overflow nothing in float32
    assert dequantize(*quantize(grid)).tolist() == [[6e4], [0.0]]
