"""What every pooler promises, for every pooler found in the package; and the released code's weights, recomputed."""

import importlib
import inspect
import math
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ppl.modules.poolers as package
from ppl.modules.poolers.average import AveragePooler
from ppl.modules.poolers.base import Pooler, WindowPooler
from ppl.modules.poolers.budget import BudgetPooler
from ppl.modules.poolers.max import MaxPooler
from ppl.modules.poolers.none import NoPooler
from ppl.modules.poolers.random import RandomPooler
from ppl.modules.poolers.token_merging import TokenMergingPooler
from ppl.modules.poolers.top_k import TopKPooler
from ppl.modules.poolers.weighted import WeightedPooler

ROOT = Path(__file__).parents[2]
KINDS = ["image", "multi_image", "video"]
CHANNELS = 5


SMALL = {
    "RandomPooler-small": (RandomPooler, {"keep": 20, "image_keep": 5}),
    "TokenMergingPooler-small": (TokenMergingPooler, {"target": 20, "image_target": 5}),
    "TokenMergingPooler-guided": (TokenMergingPooler, {"target": 20, "image_target": 5, "guided": True}),
    "BudgetPooler-small": (BudgetPooler, {"budget": 40, "image_budget": 40}),
    "TopKPooler-small": (TopKPooler, {"k": 10, "image_k": 7, "edges": "pad"}),
}
"""Settings that reduce grids as small as those of these tests; the poolers' own are for real clips."""


def found_poolers():
    classes = set()
    for module in pkgutil.iter_modules(package.__path__):
        members = inspect.getmembers(importlib.import_module(f"{package.__name__}.{module.name}"), inspect.isclass)
        classes |= {c for _, c in members if issubclass(c, Pooler) and not inspect.isabstract(c)}
    return sorted(classes, key=lambda c: c.__name__)


def variants():
    """Each pooler as it comes, some so that they reduce small grids, and windows that overlap or leave gaps."""
    for cls in found_poolers():
        yield pytest.param(cls, {}, id=cls.__name__)
        if issubclass(cls, MaxPooler):
            yield pytest.param(cls, {"mode": "elementwise"}, id="MaxPooler-elementwise")
        if issubclass(cls, WindowPooler):
            windows = {"kernel_size": (2, 2, 3), "stride": (1, 3, 2), "image_kernel_size": (1, 2, 2)}
            yield pytest.param(cls, windows | {"image_stride": (1, 1, 3)}, id=f"{cls.__name__}-strided")
            for edges in ("pad", "error"):
                yield pytest.param(cls, {"edges": edges}, id=f"{cls.__name__}-{edges}")
    for name, (cls, options) in SMALL.items():
        yield pytest.param(cls, options, id=name)


every_pooler = pytest.mark.parametrize(("cls", "options"), list(variants()))
sizes = st.tuples(st.integers(1, 9), st.integers(1, 7), st.integers(1, 7))


def inputs(size, *batch, dtype=torch.float64):
    return torch.randn(*batch, *size, CHANNELS, dtype=dtype), 3 * torch.randn(*batch, *size, dtype=dtype)


def test_the_known_poolers_are_found():
    assert {AveragePooler, NoPooler, WeightedPooler} <= set(found_poolers())


@every_pooler
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25)
@given(size=sizes)
def test_counts_are_known_beforehand(cls, options, kind, size):
    pooler = cls(**options)
    grid, relevance = inputs(size)
    try:
        count = pooler.num_tokens(size, kind)
    except ValueError as error:  # what the count refuses, the pooling refuses in the same words
        for refused in (lambda: pooler(grid, relevance, kind), lambda: pooler.output_grid(size, kind)):
            with pytest.raises(ValueError, match=f"^{re.escape(str(error))}$"):
                refused()
        return
    assert count >= 1
    assert pooler(grid, relevance, kind).shape == (count, CHANNELS)
    shape = pooler.output_grid(size, kind)
    assert shape is None or math.prod(shape) == count


@every_pooler
@pytest.mark.parametrize("kind", KINDS)
def test_a_stack_is_pooled_as_each_alone(cls, options, kind):
    pooler = cls(**options)
    grid, relevance = inputs((8, 6, 6), 2, 3)
    together = pooler(grid, relevance, kind)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(together[i, j], pooler(grid[i, j], relevance[i, j], kind))


@every_pooler
@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_what_is_read(cls, options, kind):
    pooler = cls(**options)
    grid, relevance = (tensor.requires_grad_() for tensor in inputs((8, 6, 6)))
    pooler(grid, relevance, kind).square().sum().backward()
    assert grid.grad is not None
    assert grid.grad.abs().amax(dim=(0, 1, 2)).gt(0).all()
    assert (relevance.grad is not None and bool(relevance.grad.any())) == pooler.uses_relevance


@every_pooler
def test_relevance_is_read_only_if_the_class_says_so(cls, options):
    pooler = cls(**options)
    grid, relevance = inputs((8, 6, 6))
    if pooler.uses_relevance:
        with pytest.raises(ValueError, match="got no relevance, expected one score per patch; give the model an align"):
            pooler(grid, None, "video")
    else:
        assert torch.equal(pooler(grid, None, "video"), pooler(grid, relevance, "video"))


@every_pooler
def test_the_same_inputs_give_the_same_bits_and_are_left_alone(cls, options):
    pooler = cls(**options)
    grid, relevance = inputs((8, 6, 6))
    copies = grid.clone(), relevance.clone()
    assert torch.equal(pooler(grid, relevance, "video"), pooler(grid, relevance, "video"))
    assert torch.equal(grid, copies[0])
    assert torch.equal(relevance, copies[1])


@every_pooler
@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(cls, options, kind):
    pooler = cls(**options)
    grid, relevance = (tensor.bfloat16() for tensor in inputs((8, 6, 6)))
    pooled = pooler(grid, relevance, kind)
    assert pooled.dtype == torch.bfloat16
    exact = pooler(grid.double(), relevance.double(), kind)
    # Sums are in fp32, so only the result is rounded: to 8 bits.
    torch.testing.assert_close(pooled.double(), exact, atol=1e-5, rtol=2**-8)


@every_pooler
@pytest.mark.parametrize("kind", KINDS)
def test_autocast_changes_nothing(cls, options, kind):
    """Pooling states its own precision: values and gradients are bit for bit those without autocast."""
    pooler = cls(**options)
    grid, relevance = inputs((8, 6, 6), dtype=torch.float32)
    results = []
    for enabled in (False, True):

        def call(*arguments, enabled=enabled):
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                return pooler(*arguments)

        results.append(values_and_gradients(call, grid, relevance, kind))
    assert len(results[0]) == len(results[1])
    for without, inside in zip(*results, strict=True):
        assert inside.dtype == without.dtype
        assert torch.equal(inside, without)


def assert_compiles(*names):
    """In a process of its own: the type checks of the tests are not for torch.compile."""
    command = [sys.executable, "-m", "tests.modules.test_poolers", *names]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == list(names)


def test_poolers_compile_without_a_graph_break():
    """Those of each kernel of our own, backward passes included; the others take a minute together."""
    few = "AveragePooler:video", "MaxPooler-elementwise:video", "WeightedPooler:image", "TopKPooler-small:video"
    assert_compiles(*few)


@pytest.mark.slow
def test_every_pooler_compiles_without_a_graph_break():
    assert_compiles(*(f"{variant.id}:{kind}" for variant, kind in compiled_variants()))


@every_pooler
def test_tokens_of_a_grid_come_frame_by_frame_and_row_by_row(cls, options):
    pooler = cls(**options)
    size = (16, 12, 12)  # as many frames as adaptive pooling leaves: fewer are repeated
    if pooler.output_grid(size, "video") is None:
        return
    places = torch.stack(torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij"), dim=-1)
    pooled = pooler(places, torch.zeros(size), "video")
    order = (pooled @ torch.tensor([10_000.0, 100.0, 1.0])).tolist()
    assert order == sorted(order)


@pytest.mark.parametrize("temperature", [0.01, 0.3])
@pytest.mark.parametrize("kind", ["video", "image"])
def test_official_weights_are_the_released_code_s(kind, temperature):
    """PPLLaVA's weighted pooling by its definition: softmax over the clip, then over each window at a temperature."""
    kernel, stride = ((2, 3, 3), (2, 3, 3)) if kind == "video" else ((1, 3, 3), (1, 3, 3))
    frames, rows, columns = 5, 7, 6  # a frame and a row are left over
    features, scores = inputs((frames, rows, columns))
    total = sum(math.exp(score) for score in scores.flatten().tolist())
    expected = []
    for t in range(0, frames - kernel[0] + 1, stride[0]):
        for h in range(0, rows - kernel[1] + 1, stride[1]):
            for w in range(0, columns - kernel[2] + 1, stride[2]):
                weight_sum, token = 0.0, [0.0] * CHANNELS
                for i in range(t, t + kernel[0]):
                    for j in range(h, h + kernel[1]):
                        for k in range(w, w + kernel[2]):
                            weight = math.exp(math.exp(scores[i, j, k].item()) / total / temperature)
                            weight_sum += weight
                            token = [a + weight * b for a, b in zip(token, features[i, j, k].tolist(), strict=True)]
                expected.append([value / weight_sum for value in token])
    pooler = WeightedPooler(normalization="official", temperature=temperature)
    pooled = pooler(features, scores, kind)
    # Double precision: only the order of sums differs.
    torch.testing.assert_close(pooled, torch.tensor(expected, dtype=torch.float64), atol=1e-10, rtol=1e-10)


def test_images_and_videos_have_their_own_windows():
    pooler = WeightedPooler((2, 3, 3), None, (1, 2, 2), (1, 1, 1))
    assert pooler.output_grid((4, 6, 6), "video") == (2, 2, 2)
    assert pooler.output_grid((4, 6, 6), "image") == pooler.output_grid((4, 6, 6), "multi_image") == (4, 5, 5)


def compiled_variants() -> Iterator[tuple[Any, str]]:
    """Each pooler once, so that it reduces, and what else takes a path of its own."""
    own = {"WeightedPooler-pad", "MaxPooler-elementwise"}
    reduced = {cls for cls, _ in SMALL.values()}
    for variant in variants():
        cls, options = variant.values
        if variant.id in own or variant.id in SMALL or (not options and cls not in reduced):
            yield variant, "video"
        if variant.id in ("WeightedPooler", "BudgetPooler-small"):
            yield variant, "image"


def compile_each(names):
    """Print the name of each variant that compiles as one graph, forward and backward, and gives the eager result."""
    for variant, kind in compiled_variants():
        if f"{variant.id}:{kind}" not in names:
            continue
        cls, options = variant.values
        pooler = cls(**options)
        torch.compiler.reset()  # of one class, a second size would be taken for a dynamic one
        compiled = torch.compile(pooler, fullgraph=True, backend="aot_eager")
        longer = [(12, 6, 6)] if (variant.id, kind) == ("WeightedPooler", "video") else []
        for size in [(8, 6, 6), *longer]:
            grid, relevance = inputs(size, dtype=torch.float32)
            results = [values_and_gradients(call, grid, relevance, kind) for call in (pooler, compiled)]
            torch.testing.assert_close(results[1], results[0])
        print(f"{variant.id}:{kind}")


def values_and_gradients(call, grid, relevance, kind):
    leaves = grid.clone().requires_grad_(), relevance.clone().requires_grad_()
    pooled = call(*leaves, kind)
    pooled.square().sum().backward()
    return [pooled, *(leaf.grad for leaf in leaves if leaf.grad is not None)]


if __name__ == "__main__":
    compile_each(sys.argv[1:])
