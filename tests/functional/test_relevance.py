import math

import pytest
import torch

from ppl.functional.relevance import prompt_relevance, relevance_distribution


def test_relevance_is_the_scaled_cosine():
    patches = torch.tensor([[3.0, 4.0], [0.0, 2.0], [-5.0, 0.0], [1.0, 1.0]]).view(1, 2, 2, 2)
    expected = torch.tensor([60.0, 0.0, -100.0, 100 / math.sqrt(2)]).view(1, 2, 2)
    # fp32 carries 7 digits: 1e-5 of 100
    torch.testing.assert_close(prompt_relevance(patches, torch.tensor([7.0, 0.0]), 100.0), expected, atol=1e-4, rtol=0)


def test_relevance_agrees_with_a_loop_over_the_batch_and_the_tokens():
    patches, prompt = torch.randn(2, 3, 2, 3, 4, 5).double(), torch.randn(2, 3, 5).double()
    relevance = prompt_relevance(patches, prompt, torch.tensor(10.0).double())
    assert relevance.dtype == torch.float64
    for i, j, t, h, w in torch.cartesian_prod(*map(torch.arange, relevance.shape)).tolist():
        patch, text = patches[i, j, t, h, w].tolist(), prompt[i, j].tolist()
        dot = sum(a * b for a, b in zip(patch, text, strict=True))
        expected = 10 * dot / (math.hypot(*patch) * math.hypot(*text))
        assert relevance[i, j, t, h, w].item() == pytest.approx(expected, abs=1e-12)


def test_relevance_ignores_lengths():
    patches, prompt = torch.randn(2, 2, 3, 6), torch.randn(6)
    # rounding of fp32 at logits up to 100
    torch.testing.assert_close(
        prompt_relevance(patches * 7, prompt / 3, 100.0), prompt_relevance(patches, prompt, 100.0), atol=1e-4, rtol=0
    )


def test_half_precision_inputs_are_compared_in_fp32_also_under_autocast():
    patches, prompt = torch.randn(2, 2, 2, 64).bfloat16(), torch.randn(64).bfloat16()
    expected = prompt_relevance(patches.double(), prompt.double(), 100.0).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        relevance = prompt_relevance(patches, prompt, 100.0)
    assert relevance.dtype == torch.float32
    # bf16 arithmetic would be off by about 0.2
    torch.testing.assert_close(relevance, expected, atol=1e-4, rtol=0)


def test_the_scale_learns():
    scale = torch.tensor(2.0, requires_grad=True)
    relevance = prompt_relevance(torch.randn(1, 2, 2, 4), torch.randn(4), scale)
    relevance.sum().backward()
    assert scale.grad.item() == pytest.approx(relevance.sum().item() / 2, abs=1e-5)


def test_distribution_sums_to_one_over_the_whole_clip():
    relevance = torch.randn(3, 2, 4, 5).double() * 10
    distribution = relevance_distribution(relevance)
    exponentials = relevance.exp()
    for b in range(3):
        torch.testing.assert_close(distribution[b], exponentials[b] / exponentials[b].sum())


def test_distribution_is_fp32_for_half_precision():
    distribution = relevance_distribution(torch.zeros(16, 24, 24, dtype=torch.bfloat16))
    assert distribution.dtype == torch.float32
    assert distribution.unique().item() == pytest.approx(1 / 9216, rel=1e-6)


def test_a_constant_does_not_change_the_distribution():
    relevance = torch.randn(2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(relevance_distribution(relevance + 50), relevance_distribution(relevance))
