import pytest
from torch import nn

from ppl.modules.evaluation_mode import evaluating


def test_each_module_has_its_own_mode_again():
    """Also after an error: a frozen tower that was in evaluation mode stays there."""
    tower, head = nn.Linear(1, 1).eval(), nn.Dropout()
    model = nn.ModuleList([tower, head])
    model.training = True
    with pytest.raises(KeyError, match=r"\[False, False, False\]"), evaluating(model):
        raise KeyError([module.training for module in model.modules()])
    assert [module.training for module in (model, tower, head)] == [True, False, True]
