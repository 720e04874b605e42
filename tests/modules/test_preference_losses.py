import math

import pytest
import torch

from ppl.modules.preference_losses import IPO, ORPO, Hinge, KTOPair, Robust, Sigmoid, SimPO

CHOSEN, REJECTED = torch.tensor([-1.0, -2.0]), torch.tensor([-1.5, -0.5])


@pytest.mark.parametrize("kind", [Sigmoid, Robust, Hinge, IPO, KTOPair, SimPO, ORPO])
def test_each_is_a_loss_a_pair_with_a_gradient(kind):
    chosen, rejected = CHOSEN.clone().requires_grad_(), REJECTED.clone().requires_grad_()
    loss = kind()(chosen, rejected)
    assert loss.shape == (2,)
    loss.sum().backward()
    assert (chosen.grad < 0).all()
    assert (rejected.grad > 0).all()


def test_arguments_reach_the_functions():
    assert Sigmoid(2.0, 0.25)(CHOSEN, REJECTED)[0] == pytest.approx(
        0.75 * math.log(1 + math.exp(-1)) + 0.25 * math.log(1 + math.exp(1))
    )
    assert Robust(2.0, 0.25)(CHOSEN, REJECTED)[0] == pytest.approx(
        (0.75 * math.log(1 + math.exp(-1)) - 0.25 * math.log(1 + math.exp(1))) / 0.5
    )
    assert Hinge(0.5)(CHOSEN, REJECTED).tolist() == [0.75, 1.75]
    assert IPO(0.5)(CHOSEN, REJECTED).tolist() == [0.25, 6.25]
    assert SimPO(2.0, 1.0)(CHOSEN, REJECTED)[0] == pytest.approx(math.log(2))
    assert ORPO(0.0001)(CHOSEN, REJECTED).tolist() == pytest.approx([1, 2], abs=1e-3)


def test_which_need_a_reference_and_which_lengths_count():
    kinds = {
        kind: (kind.uses_reference, kind.per_token) for kind in (Sigmoid, Robust, Hinge, IPO, KTOPair, SimPO, ORPO)
    }
    assert {kind for kind, (reference, _) in kinds.items() if not reference} == {SimPO, ORPO}
    assert {kind for kind, (_, per_token) in kinds.items() if per_token} == {IPO, SimPO, ORPO}


@pytest.mark.parametrize("make", [lambda: Sigmoid(0.0), lambda: Sigmoid(0.1, 0.5), lambda: ORPO(-1.0)])
def test_values_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"expected more than 0, and at least 0 and less than 0\.5; set model.loss"):
        make()
