"""Compare an answer's words with those of a reference, without a judge."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from ppl.evaluation.wordnet import WordNet, installed_wordnet

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WORD = re.compile(r"[^\W_]+(?:[-'][^\W_]+)*")
_BELOW_THRESHOLD = 0.1
_STOP_WORDS = """
i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself yourselves he him his himself
she she's her hers herself it it's its itself they them their theirs themselves what which who whom this that that'll
these those am is are was were be been being have has had having do does did doing a an the and but if or because as
until while to from of at for with about into through during again further then here there when where why how all any
each most other some such only own so than too very s t can will just don't should should've now d ll m o re ve y ain
aren't couldn't didn't doesn't hadn't hasn't haven't isn't ma mightn't mustn't needn't shan't shouldn't wasn't weren't
won't wouldn't
"""
"""NExT-OE's ``stopwords.txt``, which spares words of place and number and "not"; less the halves of contractions, which
are not split here."""
_STOPPED = frozenset(_STOP_WORDS.split())
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def squad_normal(text: str) -> str:
    """Lower case, without punctuation, articles and surplus blanks.

    (SQuAD's ``normalize_answer``; Rajpurkar et al. 2016, arXiv:1606.05250, section 6.1 and its evaluation script 1.1.)
    """
    bare = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def exact_match(prediction: str, reference: str) -> float:
    """1 for the same words in the same order, as SQuAD compares them; otherwise 0."""
    return float(squad_normal(prediction) == squad_normal(reference))


def token_f1(prediction: str, reference: str) -> float:
    """Harmonic mean of the shares of either text's words that are in the other, each word as often as it is there.

    (SQuAD 1.1's F1.) Two texts without a word are the same, 1, and one of them is 0, as SQuAD 2.0 has it.
    """
    said, meant = squad_normal(prediction).split(), squad_normal(reference).split()
    if not said or not meant:
        return float(said == meant)
    shared = sum((Counter(said) & Counter(meant)).values())
    if not shared:
        return 0.0
    precision, recall = shared / len(said), shared / len(meant)
    return 2 * precision * recall / (precision + recall)


def content_words(text: str, wordnet: WordNet | None = None) -> list[str]:
    """Base forms of the words that say something, as NExT-OE compares answers.

    Its script has parts of speech tagged by NLTK before base forms are taken, and stems words that WordNet lacks; here
    a word that can be a verb is one (`WordNet.lemma`). Scores are close to its own, not equal.

    Raises:
        FileNotFoundError: No WordNet was given or is installed; the message says how to get it.
    """
    return [word for word in base_forms(text, wordnet or installed_wordnet()) if word not in _STOPPED]


def base_forms(text: str, wordnet: WordNet) -> list[str]:
    """Base forms of all words, in lower case."""
    return [wordnet.lemma(word) for word in _WORD.findall(text.lower().replace("’", "'"))]


def wups(prediction: str, reference: str, threshold: float, wordnet: WordNet | None = None) -> float:
    """How alike the words of two texts are in WordNet: the smaller of the two directions' products of best matches.

    (Malinowski & Fritz 2014, arXiv:1410.0210, equation 3, in the form of doc-doc/NExT-OE, ``metrics.py``: a word that
    is like none of the others, which makes the product 0 in the paper, is passed over; if all words are, it is 0.)

    Args:
        prediction: The answer.
        reference: The right one.
        threshold: Words less alike than this count a tenth: 0 and 0.9 are common.
        wordnet: Tells how alike words are; None: `installed_wordnet`.

    Raises:
        FileNotFoundError: No WordNet was given or is installed; the message says how to get it.
    """
    wordnet = wordnet or installed_wordnet()
    said, meant = content_words(prediction, wordnet), content_words(reference, wordnet)
    return min(_best_matches(said, meant, threshold, wordnet), _best_matches(meant, said, threshold, wordnet))


def _best_matches(words: Sequence[str], others: Sequence[str], threshold: float, wordnet: WordNet) -> float:
    product, matched = 1.0, False
    for word in words:
        best = max((_alike(word, other, threshold, wordnet) for other in others), default=0.0)
        if best:
            product, matched = product * best, True
    return product if matched else 0.0


def _alike(word: str, other: str, threshold: float, wordnet: WordNet) -> float:
    if word == other:
        return 1.0
    similarity = wordnet.similarity(word, other)
    return similarity if similarity >= threshold else _BELOW_THRESHOLD * similarity
