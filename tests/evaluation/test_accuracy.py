import pytest

from triptych.errors import TriptychError
from triptych.evaluation.accuracy import COT, DIRECT, accuracy
from triptych.evaluation.intervals import share
from triptych.feedback.answers import judge_answer


def test_reasoned_answers_are_read_behind_the_marker_and_direct_ones_as_they_are():
    assert judge_answer("2 + 3 = 5.\nFinal Answer: 5", "5", COT).correct
    assert judge_answer("5", "5", DIRECT).correct
    assert judge_answer("5", "5", COT).verdict == "no_answer"
    assert judge_answer("2 + 3 = 5.\nFinal Answer: 5", "5", DIRECT).verdict == "no_answer"


def test_accuracy_and_unparsed_share_count_every_answer_once():
    texts = [("Final Answer: 5", False), ("Final Answer: 6", False), ("well", False), ("Final Answer: 5", True)]
    texts += [("Final Answer: 5\nFinal Answer: 6", False)]
    result = accuracy([judge_answer(text, "5", COT, truncated=truncated) for text, truncated in texts])
    assert result.accuracy == share(1, 5)
    assert result.unparsed == share(3, 5)
    assert result.verdicts == {"correct": 1, "wrong": 1, "no_answer": 1, "several_answers": 1, "truncated": 1}


def test_no_answers_have_no_accuracy():
    with pytest.raises(TriptychError):
        accuracy([])
