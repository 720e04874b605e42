import pytest

from tests.release.distributions import ROOT, Built, build


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Built:
    """What a release uploads, built from the checkout."""
    return build(ROOT, tmp_path_factory.mktemp("dist"), "sdist", "wheel")
