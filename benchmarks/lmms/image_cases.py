"""Image benchmarks as lmms-eval has them; which of its columns are which of ours is each benchmark's own `_item`."""

from types import SimpleNamespace

from benchmarks.lmms import texts
from benchmarks.lmms.replay import Case, FakeJudge
from benchmarks.lmms.video_cases import OPTIONS, golds
from ppl.evaluation.benchmarks import (
    gqa,
    llava_bench,
    mathvista,
    mmbench,
    mme,
    mmmu,
    mmvet,
    pope,
    scienceqa,
    seedbench,
    textvqa,
    vizwiz,
    vqav2,
)
from ppl.evaluation.items import Item, letter

QUESTION = "What is NASA doing in the picture?"
PEOPLE = ["dog"] * 4 + ["dogs", "a dog", "two", "2", "yes", "red and white"]
EXTRACTED = ("B", "(C)", "Two.", "3", "3.14", "1,000", "the answer is B", "nothing", "-2", "yes")
LETTERS = ("A", "B", "C. Three.", "D", "Z", "I cannot say", "(B)", "The answer is C")
RATINGS = ("8 7", "8.5 9", "7, 10\nbecause", "no ratings", "10 10 3", "9", "Assistant 1: 8\nAssistant 2: 9")
GRADES = ("0.5", "1.0", "0.0", "0.9 because", "1", "0.3")


def cases() -> list[Case]:
    choice = [_mmmu(), _mathvista(), *_mmbench(), _seedbench(), _scienceqa()]
    return [*choice, _mme(), _pope(), *_vqa(), _gqa(), _mmvet(), _llava_bench()]


def _letters(count: int) -> tuple[list[int], list[str]]:
    asked = golds(count, texts.letters())
    return [gold for gold, _ in asked], [text for _, text in asked]


def _mmmu() -> Case:
    """Choices and open questions."""
    gold, said = _letters(4)
    options = {False: repr(list(OPTIONS[:4])), True: "[]"}
    answers = [letter(each) for each in gold] + ["2"] * len(texts.words())
    said = [*said, *texts.words()]
    is_open = [index >= len(gold) for index in range(len(said))]
    kinds = {False: "multiple-choice", True: "open"}
    docs = [
        {"id": f"validation_Accounting_{i}", "question": QUESTION, "options": options[each], "answer": answers[i]}
        | {"question_type": kinds[each], "explanation": ""}
        for i, each in enumerate(is_open)
    ]
    items = [
        Item(doc["id"], (), QUESTION, () if each else OPTIONS[:4], doc["answer"], groups=_mmmu_groups(kinds[each]))
        for doc, each in zip(docs, is_open, strict=True)
    ]
    scores = {"mmmu_acc": ("accuracy", "overall", 100.0)}
    protocol = mmmu.Lmms(guess=False)
    return Case("mmmu_val", protocol, "validation", docs, items, said, scores, patch=_no_dice, round_to=5)


def _mmmu_groups(kind: str) -> dict[str, str]:
    return {"domain": "Business", "subject": "Accounting", "question_type": kind}


def _no_dice(judge: FakeJudge, names: dict) -> None:
    import lmms_eval.tasks._task_utils.mmmu_mcq_utils as parser

    parser.random = SimpleNamespace(choice=lambda letters: "?")


def _mathvista() -> Case:
    kinds = {
        "multi_choice": ("text", list(OPTIONS[:4]), "Two.", None),
        "integer": ("integer", None, "3", None),
        "float": ("float", None, "3.14", 2.0),
        "list": ("list", None, "[1, 2]", None),
    }
    docs, items, said = [], [], []
    meta = {"split": "testmini", "language": "english", "source": "s", "category": "c", "task": "t", "context": "x"}
    meta |= {"grade": "g", "skills": ["arithmetic"]}
    for kind, (answer_type, choices, answer, precision) in kinds.items():
        for text in [*texts.WORDS, *texts.LETTERS, "3", "3.14", "3.0", "[1, 2]", "The answer is 3"]:
            number = str(len(docs))
            question_type = "multi_choice" if kind == "multi_choice" else "free_form"
            facts = {"unit": "", "precision": precision, "question_type": question_type, "answer_type": answer_type}
            facts["query"] = f"Hint: …\nQuestion: {QUESTION}"
            own = {"pid": number, "question": QUESTION, "choices": choices, "answer": answer, "metadata": meta}
            docs.append({**facts, **own})
            groups = {"question_type": question_type, "answer_type": answer_type}
            items.append(Item(number, (), QUESTION, tuple(choices or ()), answer, groups=groups, facts=facts))
            said.append(text)

    def patch(judge: FakeJudge, names: dict) -> None:
        if "mathvista_evaluator" in names:
            names["mathvista_evaluator"].get_chat_response = lambda prompt, **_: judge.reply("", prompt)

    scores = {"llm_as_judge_eval": ("accuracy", "overall", 1.0)}
    task, protocol = "mathvista_testmini_format", mathvista.Lmms()
    return Case(task, protocol, "testmini", docs, items, said, scores, EXTRACTED, patch, one_by_one=False, round_to=2)


def _mmbench() -> list[Case]:
    """Every question in two rotations."""
    gold, said = _letters(4)
    found = []
    for task, protocol, language in (
        ("mmbench_en_dev_static", mmbench.Lmms(judged=False), "en"),
        ("mmbench_en_dev", mmbench.Lmms(guess=False), "en"),
        ("mmbench_cn_dev", mmbench.Lmms(guess=False), "cn"),
    ):
        docs, items = [], []
        for i, each in enumerate(gold):
            index = i // 2 + 1_000_000 * (i % 2)
            own = {
                "question": QUESTION,
                "hint": "It is blue." if i % 4 > 1 else None,
                "category": "c",
                "L2-category": "l",
            }
            options = dict(zip("ABCD", OPTIONS, strict=False))
            docs.append({"index": index, "answer": letter(each), "source": "s", "split": "dev", **own, **options})
            facts = {"hint": own["hint"] or "", "language": language, "rotations": 2}
            groups = {"category": "c", "l2-category": "l"}
            items.append(
                Item(
                    str(index), (), QUESTION, OPTIONS[:4], letter(each), cluster=str(i // 2), groups=groups, facts=facts
                )
            )
        replies = () if task.endswith("static") else LETTERS
        scores = {"gpt_eval_score": ("accuracy", "overall", 1.0)}
        found.append(Case(task, protocol, "dev", docs, items, said, scores, replies, _mmbench_judge, one_by_one=False))
    return found


def _mmbench_judge(judge: FakeJudge, names: dict) -> None:
    import lmms_eval.tasks.mmbench.mmbench_evals as evals

    if "mmbench_evaluator" in names:
        names["mmbench_evaluator"].get_chat_response = lambda prompt, **_: judge.reply("", prompt)
    evals.rd = SimpleNamespace(randint=lambda low, high: 0, choice=lambda letters: "?", seed=lambda *_: None)


def _seedbench() -> Case:
    gold, said = _letters(4)
    options = dict(zip(("choice_a", "choice_b", "choice_c", "choice_d"), OPTIONS, strict=False))
    own = {"data_id": "d", "data_type": "image", "question_type_id": 1, "question": QUESTION, **options}
    docs = [{"question_id": str(i), "answer": letter(each), **own} for i, each in enumerate(gold)]
    items = [Item(str(i), (), QUESTION, OPTIONS[:4], letter(each)) for i, each in enumerate(gold)]
    scores = {"seed_image": ("accuracy", "overall", 100.0)}
    return Case("seedbench", seedbench.Lmms(), "test", docs, items, said, scores)


def _scienceqa() -> Case:
    gold, said = _letters(4)
    own = {"question": QUESTION, "choices": list(OPTIONS[:4]), "hint": "It is blue.", "lecture": "", "solution": ""}
    docs = [{"answer": each, **own} for each in gold]
    items = [
        Item(str(i), (), QUESTION, OPTIONS[:4], letter(each), facts={"hint": "It is blue."})
        for i, each in enumerate(gold)
    ]
    scores = {"exact_match": ("accuracy", "overall", 100.0)}
    return Case("scienceqa_img", scienceqa.Lmms(), "test", docs, items, said, scores)


def _mme() -> Case:
    said = texts.words()
    said = said[: len(said) // 2 * 2]
    asked = "Is there a dog? Please answer yes or no."
    docs, items = [], []
    for i in range(len(said)):
        category, kind = (("existence", "perception"), ("code_reasoning", "cognition"))[i // 2 % 2]
        answer = ("Yes", "No")[i % 2]
        docs.append(
            {"question_id": f"{category}/{i // 2}.png", "category": category, "question": asked, "answer": answer}
        )
        groups = {"category": category, "kind": kind}
        items.append(
            Item(f"{category}/{i}", (), asked, (), answer.lower(), cluster=f"{category}/{i // 2}", groups=groups)
        )
    scores = {f"mme_{kind}_score": (f"{kind}_score", "overall", 1.0) for kind in ("perception", "cognition")}
    return Case("mme", mme.Lmms(), "test", docs, items, said, scores, one_by_one=False)


def _pope() -> Case:
    asked = [(answer, text) for answer in ("yes", "no") for text in texts.words()]
    own = {"question": QUESTION, "category": "random", "image_source": "s"}
    docs = [{"id": str(i), "question_id": str(i), "answer": answer, **own} for i, (answer, _) in enumerate(asked)]
    items = [
        Item(str(i), (), QUESTION, (), answer, groups={"category": "random"}) for i, (answer, _) in enumerate(asked)
    ]
    names = {
        "accuracy": "accuracy",
        "precision": "precision",
        "recall": "recall",
        "f1_score": "f1",
        "yes_ratio": "yes_ratio",
    }
    scores = {f"pope_{their}": (our, "overall", 100.0) for their, our in names.items()}
    return Case("pope", pope.Lmms(), "test", docs, items, [text for _, text in asked], scores)


def _vqa() -> list[Case]:
    """VQAv2, VizWiz and TextVQA."""
    said, found = texts.words(400), []
    scores = {"exact_match": ("accuracy", "overall", 100.0)}
    for task, protocol, split in (
        ("vqav2_val", vqav2.Lmms(), "validation"),
        ("vizwiz_vqa_val", vizwiz.Lmms(), "val"),
        ("textvqa_val", textvqa.Lmms(), "validation"),
    ):
        answers = [{"answer": each, "answer_confidence": "yes", "answer_id": n} for n, each in enumerate(PEOPLE)]
        docs = [
            {"question_id": str(i), "question": QUESTION, "answers": answers if task == "vqav2_val" else PEOPLE}
            for i in range(len(said))
        ]
        items = [Item(str(i), (), QUESTION, (), "dog", answers=tuple(PEOPLE)) for i in range(len(said))]
        found.append(Case(task, protocol, split, docs, items, said, scores))
    return found


def _gqa() -> Case:
    asked = [(answer, text) for answer in ("dog", "yes") for text in texts.words()]
    docs = [
        {"id": str(i), "imageId": "n", "question": QUESTION, "answer": answer} for i, (answer, _) in enumerate(asked)
    ]
    items = [Item(str(i), (), QUESTION, (), answer) for i, (answer, _) in enumerate(asked)]
    scores = {"exact_match": ("accuracy", "overall", 100.0)}
    images = {"process_docs": None}  # it would fetch them from the hub
    return Case("gqa", gqa.Lmms(), "testdev", docs, items, [text for _, text in asked], scores, overrides=images)


def _mmvet() -> Case:
    said = texts.words(40)
    own = {"question": QUESTION, "answer": "a dog<AND>a cat<OR>two", "capability": "ocr,rec"}
    docs = [{"question_id": f"v1_{i}", **own} for i in range(len(said))]
    groups = {"capabilities": "ocr,rec"}
    items = [Item(f"v1_{i}", (), QUESTION, (), own["answer"], groups=groups) for i in range(len(said))]

    def patch(judge: FakeJudge, names: dict) -> None:
        names["get_chat_response"] = lambda prompt, **_: (judge.reply("", prompt), "fake")

    scores = {"gpt_eval_score": ("score", "overall", 1.0)}
    return Case("mmvet", mmvet.Lmms(), "test", docs, items, said, scores, GRADES, patch)


def _llava_bench() -> Case:
    said = texts.words(40)
    kinds = ("conv", "detail", "complex")
    own = {"question": QUESTION, "caption": "A dog on the moon.", "gpt_answer": "It lands.", "image_id": "1"}
    docs = [{"question_id": str(i), "category": kinds[i % 3], **own} for i in range(len(said))]
    facts = {"context": own["caption"]}
    items = [
        Item(str(i), (), QUESTION, (), "It lands.", groups={"category": kinds[i % 3]}, facts=facts)
        for i in range(len(said))
    ]

    def patch(judge: FakeJudge, names: dict) -> None:
        def pipeline(*, content: str, **_: object):
            said = judge.reply("", content)
            return names["_parse_comparative_scores"](said)

        names["_get_pipeline"] = lambda: pipeline

    names = {"all": "overall", "conv": "category=conv", "detail": "category=detail", "complex": "category=complex"}
    scores = {f"gpt_eval_llava_{name}": ("relative", group, 1.0) for name, group in names.items()}
    protocol = llava_bench.Lmms()
    case = Case("llava_in_the_wild", protocol, "train", docs, items, said, scores, RATINGS, patch, one_by_one=False)
    case.round_to = 1
    return case
