import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ppl.functional.newlines import add_newlines, num_with_newlines

SIDES = st.integers(1, 4)
NEWLINE = torch.full((2,), -1.0)


def by_loop(tokens, grid, where):
    t, h, w = grid
    result, place = [], 0
    for _ in range(t):
        for _ in range(h):
            for _ in range(w):
                result.append(tokens[place])
                place += 1
            result += [NEWLINE] if where == "row" else []
        result += [NEWLINE] if where == "frame" else []
    return torch.stack(result + ([NEWLINE] if where == "end" else []))


@given(st.tuples(SIDES, SIDES, SIDES), st.sampled_from(["none", "end", "frame", "row"]))
def test_newlines_stand_where_a_loop_puts_them(grid, where):
    count = grid[0] * grid[1] * grid[2]
    tokens = torch.arange(2.0 * count).view(count, 2)
    result = add_newlines(tokens, grid, NEWLINE, where)
    assert torch.equal(result, by_loop(tokens, grid, where))
    assert num_with_newlines(count, grid, where) == len(result)


@pytest.mark.parametrize(("where", "more"), [("none", 0), ("end", 1), ("frame", 0), ("row", 0)])
def test_without_a_grid_only_the_end_is_known(where, more):
    tokens = torch.randn(5, 2)
    result = add_newlines(tokens, None, NEWLINE, where)
    assert torch.equal(result, torch.cat([tokens, NEWLINE.expand(more, 2)]))
    assert num_with_newlines(5, None, where) == 5 + more


def test_newlines_take_the_tokens_precision():
    assert add_newlines(torch.zeros(4, 2).bfloat16(), (1, 2, 2), NEWLINE, "row").dtype == torch.bfloat16
