import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.functional.noise import add_embedding_noise


@given(seed=st.integers(0, 99), alpha=st.sampled_from([1.0, 5.0, 15.0]))
def test_the_noise_is_that_of_a_loop(seed, alpha):
    """Position by position from the same uniform draws; 1e-6 for the order of products in float32."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = torch.randn(2, 9, 4, generator=generator)
    segments = torch.tensor([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1, 1, 1, 1, 1, 1, 1, 1, 1]])
    drawn = torch.rand(2, 9, generator=generator) < 0.6
    is_text = drawn & (segments > 0)
    torch.manual_seed(seed)
    noisy = add_embedding_noise(embeddings, drawn, segments, alpha)
    torch.manual_seed(seed)
    draws = 2 * torch.rand(2, 9, 4) - 1
    for row in range(2):
        for position in range(9):
            same = segments[row] == segments[row, position]
            size = sum(bool(text) for text, here in zip(is_text[row], same, strict=True) if here)
            scale = alpha / math.sqrt(size * 4) if is_text[row, position] else 0.0
            expected = embeddings[row, position] + scale * draws[row, position]
            torch.testing.assert_close(noisy[row, position], expected, rtol=0, atol=1e-6)
