import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import get_cosine_schedule_with_warmup

from ppl.functional.schedules import warmup_cosine


@given(num_steps=st.integers(1, 40), num_warmup_steps=st.integers(0, 50))
def test_the_factors_are_those_of_transformers(num_steps, num_warmup_steps):
    """The same formula in the same order: no difference at all."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps, num_steps)
    for step in range(num_steps + 1):
        assert warmup_cosine(step, num_warmup_steps, num_steps) == optimizer.param_groups[0]["lr"]
        optimizer.step()
        schedule.step()


def test_a_rise_a_peak_and_an_end():
    assert [warmup_cosine(step, 2, 6) for step in (0, 1, 2, 4, 6)] == [0.0, 0.5, 1.0, 0.5, 0.0]
