"""What a judge is asked about answers to open-ended questions about videos.

The words are Video-ChatGPT's (Maaz et al. 2024, arXiv:2306.05424), whose ``quantitative_evaluation`` PPLLaVA,
Video-LLaVA and lmms-eval copied. They were taken from lmms-eval 0.7.3 (``utils.py`` of its tasks ``activitynetqa`` and
``videochatgpt``; Apache-2.0), their slips included: the example of a reply is no valid Python.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ppl.evaluation.judge import Request

Aspect = Literal["correctness", "detail", "context", "temporal", "consistency"]


class _Wording(NamedTuple):
    about: str
    """What the judge evaluates, and finds out."""
    instructions: str
    score: str
    highest: str
    its_score: str
    """Behind "where its value is"."""


_START = "You are an intelligent chatbot designed for evaluating "
_HOW = " Here's how you can accomplish the task:------##INSTRUCTIONS: "
_PAIRS = " of generative outputs for video-based question-answer pairs. "
_COMPARE = "Your task is to compare the predicted answer with the correct answer and "
_SYNONYMS = "- Consider synonyms or paraphrases as valid matches.\n"
_ASK = "Please evaluate the following video-based question-answer pair:\n\n"
_FORM = "Please generate the response in the form of a Python dictionary string with keys "
_ONLY = "DO NOT PROVIDE ANY OTHER OUTPUT TEXT OR EXPLANATION. Only provide the Python dictionary string. "
_UNKNOWN = "Please assign a score of 0 when the meaning of Predicted Answer is similar to 'I don't know'."

_WORDINGS: dict[Aspect, _Wording] = {
    "correctness": _Wording(
        f"the factual accuracy{_PAIRS}{_COMPARE}determine if they are factually consistent.",
        "- Focus on the factual consistency between the predicted answer and the correct answer. The predicted answer "
        "should not contain any misinterpretations or misinformation.\n"
        "- The predicted answer must be factually accurate and align with the video content.\n"
        f"{_SYNONYMS}- Evaluate the factual accuracy of the prediction compared to the answer.",
        "factual accuracy",
        "factual consistency",
        "the factual accuracy",
    ),
    "detail": _Wording(
        f"the detail orientation{_PAIRS}{_COMPARE}determine its level of detail, considering both completeness and "
        "specificity.",
        "- Check if the predicted answer covers all major points from the video. The response should not leave out any "
        "key aspects.\n"
        "- Evaluate whether the predicted answer includes specific details rather than just generic points. It should "
        "provide comprehensive information that is tied to specific elements of the video.\n"
        f"{_SYNONYMS}- Provide a single evaluation score that reflects the level of detail orientation of the "
        "prediction, considering both completeness and specificity.",
        "detail orientation",
        "detail orientation",
        "the detail orientation",
    ),
    "context": _Wording(
        f"the contextual understanding{_PAIRS}{_COMPARE}determine if the generated response aligns with the overall "
        "context of the video content.",
        "- Evaluate whether the predicted answer aligns with the overall context of the video content. It should not "
        "provide information that is out of context or misaligned.\n"
        "- The predicted answer must capture the main themes and sentiments of the video.\n"
        f"{_SYNONYMS}- Provide your evaluation of the contextual understanding of the prediction compared to the "
        "answer.",
        "contextual understanding",
        "contextual understanding",
        "contextual understanding",
    ),
    "temporal": _Wording(
        f"the temporal understanding{_PAIRS}{_COMPARE}determine if they correctly reflect the temporal sequence of "
        "events in the video content.",
        "- Focus on the temporal consistency between the predicted answer and the correct answer. The predicted answer "
        "should correctly reflect the sequence of events or details as they are presented in the video content.\n"
        "- Consider synonyms or paraphrases as valid matches, but only if the temporal order is maintained.\n"
        "- Evaluate the temporal accuracy of the prediction compared to the answer.",
        "temporal accuracy",
        "temporal consistency",
        "the temporal accuracy",
    ),
    "consistency": _Wording(
        "the consistency of generative outputs for similar video-based question-answer pairs. You will be given two "
        "very similar questions, a common answer common to both the questions and predicted answers for the two "
        "questions .Your task is to compare the predicted answers for two very similar question, with a common correct "
        "answer and determine if they are consistent.",
        "- Focus on the consistency between the two predicted answers and the correct answer. Both predicted answers "
        "should correspond to the correct answer and to each other, and should not contain any contradictions or "
        "significant differences in the conveyed information.\n"
        "- Both predicted answers must be consistent with each other and the correct answer, in terms of the "
        "information they provide about the video content.\n"
        "- Consider synonyms or paraphrases as valid matches, but only if they maintain the consistency in the "
        "conveyed information.\n"
        "- Evaluate the consistency of the two predicted answers compared to the correct answer.",
        "consistency",
        "consistency",
        "the consistency",
    ),
}


def verdict_request(question: str, answer: str, said: str) -> Request:
    """Ask whether an answer is right, and for a score from 0 to 5; the reply is read by `read_verdict`."""
    system = (
        f"{_START}the correctness of generative outputs for question-answer pairs. {_COMPARE}determine if they match "
        f"meaningfully.{_HOW}- Focus on the meaningful match between the predicted answer and the correct answer.\n"
        f"{_SYNONYMS}- Evaluate the correctness of the prediction compared to the answer."
    )
    asked = (
        "Provide your evaluation only as a yes/no and score where the score is an integer value between 0 and 5, with "
        f"5 indicating the highest meaningful match. {_FORM}'pred' and 'score', where value of 'pred' is  a string of "
        f"'yes' or 'no' and value of 'score' is in INTEGER, not STRING.{_ONLY}"
        "For example, your response should look like this: {'pred': 'yes', 'score': 4.8}."
    )
    return Request(system, f"{_pair(question, answer, said)}{asked}")


def aspect_request(aspect: Aspect, question: str, answer: str, said: str, *, unknown_is_zero: bool = False) -> Request:
    """Ask for a score of one aspect of an answer, from 0 to 5; the reply is read by `read_number`.

    Args:
        aspect: Which.
        question: What was asked.
        answer: The reference.
        said: The answer.
        unknown_is_zero: Add PPLLaVA's line, in its ``evaluate_benchmark_1_correctness.py``, about "I don't know".
    """
    return _scored(aspect, _pair(question, answer, said), _UNKNOWN if unknown_is_zero else "")


def consistency_request(questions: tuple[str, str], answer: str, said: tuple[str, str]) -> Request:
    """Ask for a score, from 0 to 5, of how consistent the answers to two questions with one reference are."""
    return _scored(
        "consistency",
        f"{_ASK}Question 1: {questions[0]}\nQuestion 2: {questions[1]}\nCorrect Answer: {answer}\n"
        f"Predicted Answer to Question 1: {said[0]}\nPredicted Answer to Question 2: {said[1]}\n\n",
    )


def _pair(question: str, answer: str, said: str) -> str:
    return f"{_ASK}Question: {question}\nCorrect Answer: {answer}\nPredicted Answer: {said}\n\n"


def _scored(aspect: Aspect, pair: str, extra: str = "") -> Request:
    words = _WORDINGS[aspect]
    asked = (
        f"Provide your evaluation only as a {words.score} score where the {words.score} score is an integer value "
        f"between 0 and 5, with 5 indicating the highest level of {words.highest}. {extra}{_FORM}'score', where its "
        f"value is {words.its_score} score in INTEGER, not STRING.{_ONLY}"
        "For example, your response should look like this: {''score': 4.8}."
    )
    return Request(f"{_START}{words.about}{_HOW}{words.instructions}", f"{pair}{asked}")
