"""The papers' token counts, as their table: 32 frames of 24 x 24 patches (v2 Tables 3 and 5)."""

import pytest
import yaml
from jsonargparse import ArgumentParser

from ppl.modules.poolers.base import Pooler
from tests.modules.tiny import ROOT

TABLE = [  # pooling method, kernel 1, kernel 2, tokens of the papers, recipe, its arguments
    ("weighted average", "(2,3,3)", "-", 1024, "weighted", {}),
    ("separate S-T", "-", "-", 608, "separate_st", {}),
    ("max pooling", "(2,3,3)", "-", 1024, "max", {}),
    ("multiple", "(1,6,6)", "(8,2,2)", 1088, "multi_kernel", {}),
    (
        "multiple",
        "(4,3,3)",
        "(2,4,4)",
        1088,
        "multi_kernel",
        {"kernels": [{"kernel_size": [4, 3, 3]}, {"kernel_size": [2, 4, 4]}]},
    ),
    ("Token Merging", "-", "-", 2048, "token_merging", {}),
    ("Average Pooling", "-", "-", 576, "temporal_average", {}),
]


def pooler_of(recipe, arguments):
    part = yaml.safe_load((ROOT / f"recipes/parts/poolers/{recipe}.yaml").read_text())
    part["init_args"] = {**part.get("init_args", {}), **arguments}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(Pooler, "pooler")
    return parser.instantiate(parser.parse_object({"pooler": part})).pooler


@pytest.mark.parametrize(("method", "kernel1", "kernel2", "tokens", "recipe", "arguments"), TABLE)
def test_token_counts_are_the_papers(method, kernel1, kernel2, tokens, recipe, arguments):
    """`pytest -s` prints the table."""
    count = pooler_of(recipe, arguments).num_tokens((32, 24, 24), "video")
    print(f"\n| {method:16} | {kernel1:7} | {kernel2:7} | {tokens:4} | ours: {count:4} |", end="")
    assert count == tokens
