"""What property tests of pooling draw alike."""

import torch
from hypothesis import strategies as st


@st.composite
def geometries(draw):
    """Size of a grid, windows that fit into it, and a generator of what it holds."""
    size = draw(st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(1, 5)))
    kernel_size = tuple(draw(st.integers(1, min(3, extent))) for extent in size)
    stride = tuple(draw(st.integers(1, 3)) for _ in size)
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    return size, {"kernel_size": kernel_size, "stride": stride}, generator
