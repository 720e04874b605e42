import pytest

from tests.modules.tiny import ROOT


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    """Recipes name folders relative to the root of the checkout."""
    monkeypatch.chdir(ROOT)
