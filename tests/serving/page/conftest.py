import pytest

from ppl.modules.poolers.average import AveragePooler
from ppl.serving.engine import Engine
from ppl.serving.http.settings import Caps
from ppl.serving.http.store import Store
from ppl.serving.page.visit import Visit


@pytest.fixture
def engine(model, processor):
    engine = Engine(model, processor, {"average": AveragePooler((2, 3, 3))})
    yield engine
    engine.close(0.0)


@pytest.fixture
def store(tmp_path):
    store = Store(2**30, 3600.0, tmp_path)
    yield store
    store.close()


@pytest.fixture
def visit(engine, store):
    return Visit(engine, store, Caps(video_seconds=5.0, tokens=12))


@pytest.fixture
def opened(visit, clip):
    visit.open(clip)
    return visit
