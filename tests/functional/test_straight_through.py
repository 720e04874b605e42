import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ppl.functional.straight_through import straight_through


def leaves(*shape, dtype=torch.float64, probabilities_dtype=torch.float64):
    values, probabilities = torch.randn(shape, dtype=dtype), torch.rand(shape[:-1], dtype=probabilities_dtype)
    return values.requires_grad_(), probabilities.requires_grad_()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@given(probability=st.floats(0, 1, width=32))
@settings(deadline=None, max_examples=25)
def test_values_pass_bit_for_bit(dtype, probability):
    values = torch.cat([torch.randn(3, 50) * 10.0**-3, torch.tensor([0.0, -0.0, 1e-7]).expand(3, 3)], dim=-1).to(dtype)
    passed = straight_through(values, torch.full((3,), probability))
    assert passed.dtype == dtype
    assert torch.equal(passed.view(torch.uint8), values.view(torch.uint8))


def test_gradients_by_hand():
    values = torch.tensor([[2.0, 3.0], [5.0, 7.0]], requires_grad=True)
    probabilities = torch.tensor([0.1, 0.9], requires_grad=True)
    upstream = torch.tensor([[1.0, -1.0], [10.0, 100.0]])
    straight_through(values, probabilities).backward(upstream)
    assert torch.equal(values.grad, upstream)
    assert probabilities.grad.tolist() == [2 - 3, 50 + 700]  # whatever the probabilities are


def test_the_gradient_is_that_of_a_product_with_ones():
    values, probabilities = leaves(2, 3, 4, 5)
    upstream = torch.randn_like(values)
    straight_through(values, probabilities).backward(upstream)
    ones = torch.ones_like(probabilities, requires_grad=True)
    to_values, to_ones = torch.autograd.grad(values * ones[..., None], [values, ones], upstream)
    assert torch.equal(values.grad, to_values)
    assert torch.equal(probabilities.grad, to_ones)


def test_half_precision_gradients_are_summed_in_full_precision():
    values, probabilities = leaves(1, 4096, dtype=torch.bfloat16, probabilities_dtype=torch.float32)
    passed = straight_through(values, probabilities)
    passed.backward(torch.ones_like(passed))
    assert values.grad.dtype == torch.bfloat16
    assert probabilities.grad.dtype == torch.float32
    # fp32 sums of 4096 values of size 1; in bf16 the sum would be off by up to 2**-8 of itself
    assert probabilities.grad.item() == pytest.approx(math.fsum(values[0].tolist()), abs=1e-3)
