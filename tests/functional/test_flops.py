"""Numbers derived by hand; `tests/planning/test_sample_work.py` compares whole models with PyTorch's own counter."""

from ppl.functional.flops import Work, attention_work, linear_work, patch_embedding_work


def test_linear_layers_take_two_operations_a_weight_and_token():
    """7 tokens, matrices 3 x 4 and 4 x 5: 2 * 7 * (12 + 20) = 448."""
    assert linear_work(7, 32).forward == 448
    assert linear_work(7, 32).backward == 0
    assert linear_work(7, 32, 32).backward == 2 * 448, "of weights and of inputs"
    assert linear_work(7, 32, 12).backward == 2 * 7 * 12 + 448
    assert linear_work(7, 32, before=True).backward == 448, "frozen, passes the gradient on"


def test_attention_is_counted_in_full():
    """5 queries, 6 keys, width 8, 2 layers: scores 2*5*6*8, sums of values as many, twice."""
    work = attention_work(5, 6, 8, 2)
    assert work.forward == 2 * (480 + 480)
    assert work.backward == 0
    assert attention_work(5, 6, 8, 2, has_gradient=True).backward == 2 * work.forward, "gradients of both factors"


def test_pixels_need_no_gradient():
    """9 patches of 14 x 14 x 3 to width 16."""
    work = patch_embedding_work(9, 14, 16, trains=True)
    assert work.forward == 2 * 9 * 588 * 16
    assert work.backward == work.forward
    assert patch_embedding_work(9, 14, 16).backward == 0


def test_parts_of_a_stage_add_up():
    both = Work(10, 0, 10, True) + Work(0, 6)
    assert (both.forward, both.backward) == (16, 10 + 10 + 12)


def test_a_7b_in_kaplan_s_terms():
    """6 N operations a trained token, N of LLaMA-7B's layers and head 6.61e9 - and 8 % more of attention at 2048."""
    weights = 32 * (4 * 4096**2 + 3 * 4096 * 11008) + 4096 * 32000
    work = linear_work(2048, weights, weights) + attention_work(2048, 2048, 4096, 32, has_gradient=True)
    kaplan = 6 * 6.607e9 * 2048
    assert 1.07 < (work.forward + work.backward) / kaplan < 1.09
