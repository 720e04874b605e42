"""What models say: the nasty answers of published transcripts, and random ones made of the same pieces."""

import random

LETTERS = (
    *("", " ", "\n\n", "A", "b", "C", "D", "E", "(B)", "(b)", "B)", "[D]", "**B**", "B) Gray", "B.", "B:", "d.", "A,"),
    *("Based on the video, the answer is C.", "D. A book", "D.A book", "The answer is B.", "C is wrong, so B"),
    *("A man is holding a dog, so D", "Both A and B", "Answer: C", "The correct option is (D).", "the answer is c"),
    *(
        "B\nbecause the man sings",
        "(A) One. (B) Two.",
        "None of the above",
        "I choose B",
        "答案是B",
        "A and C",
        "a dog",
    ),
    *("The man walks to Three. and sits down there", "Three.", "Both One. and Four. are shown in the video, I think"),
    *("I don't know.", "D or maybe C", "Not A. Not B. It is D.", "The best answer is: B", "Option B", "'C'", '"C"'),
    *("c)", "ABCD", "BC", "A B C D", "Answer", "It is B, not A.", "B.\n\nC.", "  D  ", "D\t", "B!", "…B", "B…"),
)
WORDS = (
    *("yes", "Yes", "no", "No.", "Yes.", "YES!", "yes, it is", "no, there is none", "", " ", "Unanswerable", "unsure"),
    *("two", "2", "2.0", "a dog", "the dogs", "dog.", "dog, cat", "Dog", "red and white", "red/white", "10,000"),
    *("10000", "it's", "dont", "don't", "man's hat", "t-shirt", "t shirt", "1/2", "50%", "$5", "coca-cola", '"stop"'),
    *("The answer is dog", "no no", "None", "I know", "other", "not sure", "dog\ncat", "dog\tcat", " dog ", "dog?"),
)
REFERENCES = (
    ("to play with the dog", None),
    ("sitting on the sofa", "relaxing on a couch"),
    ("two", "2"),
    ("yes", None),
    ("happy", "she is smiling"),
    ("the baby cries loudly", None),
)
_PIECES = (
    "A",
    "B",
    "C",
    "D",
    "E",
    "a",
    "b",
    "(C)",
    "D.",
    "B)",
    "the answer is",
    "answer:",
    "not",
    ".",
    ",",
    "\n",
    "a man",
)
PHRASES = (
    *("", "play with dog", "Playing with the dogs.", "they played", "to feed the cat", "sit on a chair", "sat down"),
    *("two", "2", "Two dogs", "three", "yes", "Yes.", "no", "not happy", "she smiled happily", "the child is crying"),
    *("babies cry", "couch", "on the sofa", "relaxed", "xyzzy", "the", "because the man's ball rolled away", "sad"),
    *(
        "He didn't move",
        "running, jumping and laughing",
        "t-shirt",
        "dog dog dog",
        "don't know",
        "better",
        "red-haired",
    ),
)
_PHRASE_PIECES = (
    "dog",
    "puppies",
    "played",
    "ball",
    "sits",
    "sofa",
    "happy",
    "children",
    "two",
    "loudly",
    "the",
    "not",
)
_WORD_PIECES = ("yes", "no", "dog", "two", "2", "the", "a", ".", ",", "'s", "-", "red", "?", "\n", "not", "and", "10")


def letters(number: int = 160) -> list[str]:
    """Answers to multiple choice."""
    return [*LETTERS, *_mixed(_PIECES, number, 0)]


def words(number: int = 160) -> list[str]:
    """Short answers."""
    return [*WORDS, *_mixed(_WORD_PIECES, number, 1)]


def phrases(number: int = 40) -> list[str]:
    """Answers to open questions."""
    return [*PHRASES, *_mixed(_PHRASE_PIECES, number, 2)]


def _mixed(pieces: tuple[str, ...], number: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return [" ".join(draw.choices(pieces, k=draw.randint(1, 6))) for _ in range(number)]
