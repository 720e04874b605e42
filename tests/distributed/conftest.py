import pytest

from tests.distributed.two_processes import TwoProcesses


@pytest.fixture(scope="session")
def two_processes():
    shared = TwoProcesses()
    yield shared
    shared.close()
