"""A WordNet of a dozen words, in the format of wndb(5WN)."""

NOUNS = {
    "entity": None,
    "animal": "entity",
    "canine": "animal",
    "dog": "canine",
    "puppy": "dog",
    "rex": "dog",  # an instance
    "feline": "animal",
    "cat": "feline",
    "thing": "entity",
    "ball": "thing",
    "run": "thing",
}
VERBS = {"move": None, "run": "move", "walk": "move", "leave": "move", "eat": None}


def make_wordnet(folder, newline="\n"):
    folder.mkdir()
    _write(folder, "noun", "n", NOUNS, newline)
    _write(folder, "verb", "v", VERBS, newline)
    for name in ("adj", "adv"):
        _write(folder, name, name[2] if name == "adv" else "a", {}, newline)
    (folder / "noun.exc").write_text("puppies puppy\n")
    (folder / "verb.exc").write_text("ran run\nrunning run\nleft leave\n")
    for name in ("adj", "adv"):
        (folder / f"{name}.exc").write_text("")
    return folder


def _write(folder, name, part, parents, newline):
    """Places are of one character a line end, as Princeton counts them, whatever the line ends are."""
    start = "  1 A licence, which every file begins with.\n"

    def lines(places):
        return [_line(places, part, word, parent) for word, parent in parents.items()]

    places, at = {}, len(start)
    for word, line in zip(parents, lines(dict.fromkeys(parents, 0)), strict=True):
        places[word] = at
        at += len(line)
    (folder / f"data.{name}").write_text("".join([start, *lines(places)]), newline=newline)
    index = "".join(f"{word} {part} 1 1 @ 1 0 {places[word]:08}  \n" for word in sorted(parents))
    (folder / f"index.{name}").write_text(start + index, newline=newline)


def _line(places, part, word, parent):
    mark = "@i" if word == "rex" else "@"
    above = "000" if parent is None else f"001 {mark} {places[parent]:08} {part} 0000"
    return f"{places[word]:08} 03 {part} 01 {word} 0 {above} | what a {word} is\n"
