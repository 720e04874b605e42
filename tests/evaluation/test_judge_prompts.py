"""The words of Video-ChatGPT's scripts, written out once in full; the other aspects by what sets them apart."""

from ppl.evaluation.judge_prompts import aspect_request, consistency_request, verdict_request


def test_a_verdict_is_asked_in_video_chatgpt_s_words():
    request = verdict_request("is it red", "yes", "a red car")
    assert request.system == (
        "You are an intelligent chatbot designed for evaluating the correctness of generative outputs for "
        "question-answer pairs. Your task is to compare the predicted answer with the correct answer and determine if "
        "they match meaningfully. Here's how you can accomplish the task:------##INSTRUCTIONS: - Focus on the "
        "meaningful match between the predicted answer and the correct answer.\n- Consider synonyms or paraphrases as "
        "valid matches.\n- Evaluate the correctness of the prediction compared to the answer."
    )
    assert request.user == (
        "Please evaluate the following video-based question-answer pair:\n\nQuestion: is it red\nCorrect Answer: yes\n"
        "Predicted Answer: a red car\n\nProvide your evaluation only as a yes/no and score where the score is an "
        "integer value between 0 and 5, with 5 indicating the highest meaningful match. Please generate the response "
        "in the form of a Python dictionary string with keys 'pred' and 'score', where value of 'pred' is  a string of "
        "'yes' or 'no' and value of 'score' is in INTEGER, not STRING.DO NOT PROVIDE ANY OTHER OUTPUT TEXT OR "
        "EXPLANATION. Only provide the Python dictionary string. For example, your response should look like this: "
        "{'pred': 'yes', 'score': 4.8}."
    )


def test_an_aspect_is_asked_in_video_chatgpt_s_words():
    request = aspect_request("context", "why", "for fun", "no idea")
    assert request.system == (
        "You are an intelligent chatbot designed for evaluating the contextual understanding of generative outputs for "
        "video-based question-answer pairs. Your task is to compare the predicted answer with the correct answer and "
        "determine if the generated response aligns with the overall context of the video content. Here's how you can "
        "accomplish the task:------##INSTRUCTIONS: - Evaluate whether the predicted answer aligns with the overall "
        "context of the video content. It should not provide information that is out of context or misaligned.\n- The "
        "predicted answer must capture the main themes and sentiments of the video.\n- Consider synonyms or "
        "paraphrases as valid matches.\n- Provide your evaluation of the contextual understanding of the prediction "
        "compared to the answer."
    )
    assert request.user == (
        "Please evaluate the following video-based question-answer pair:\n\nQuestion: why\nCorrect Answer: for fun\n"
        "Predicted Answer: no idea\n\nProvide your evaluation only as a contextual understanding score where the "
        "contextual understanding score is an integer value between 0 and 5, with 5 indicating the highest level of "
        "contextual understanding. Please generate the response in the form of a Python dictionary string with keys "
        "'score', where its value is contextual understanding score in INTEGER, not STRING.DO NOT PROVIDE ANY OTHER "
        "OUTPUT TEXT OR EXPLANATION. Only provide the Python dictionary string. For example, your response should look "
        "like this: {''score': 4.8}."
    )


def test_the_other_aspects_name_their_own_scores():
    wording = {
        "correctness": ("factual accuracy", "factual consistency", "determine if they are factually consistent."),
        "detail": ("detail orientation", "detail orientation", "considering both completeness and specificity."),
        "temporal": ("temporal accuracy", "temporal consistency", "the temporal sequence of events in the video"),
    }
    for aspect, (score, highest, task) in wording.items():
        request = aspect_request(aspect, "q", "a", "p")
        assert task in request.system
        assert f"only as a {score} score where the {score} score is an integer value between 0 and 5" in request.user
        assert f"the highest level of {highest}. Please generate" in request.user
        assert f"where its value is the {score} score in INTEGER" in request.user


def test_ppllava_adds_a_line_about_not_knowing():
    plain, known = (aspect_request("correctness", "q", "a", "p", unknown_is_zero=zero) for zero in (False, True))
    line = "Please assign a score of 0 when the meaning of Predicted Answer is similar to 'I don't know'."
    assert known.user == plain.user.replace("consistency. Please generate", f"consistency. {line}Please generate")


def test_a_pair_is_asked_with_both_answers():
    request = consistency_request(("q1", "q2"), "a", ("p1", "p2"))
    assert "for the two questions .Your task is to compare the predicted answers" in request.system
    assert request.user.startswith(
        "Please evaluate the following video-based question-answer pair:\n\nQuestion 1: q1\nQuestion 2: q2\nCorrect "
        "Answer: a\nPredicted Answer to Question 1: p1\nPredicted Answer to Question 2: p2\n\nProvide your evaluation "
        "only as a consistency score where the consistency score is an integer value between 0 and 5"
    )
