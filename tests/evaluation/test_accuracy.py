import pytest

from triptych.errors import TriptychError
from triptych.evaluation.accuracy import accuracy
from triptych.evaluation.intervals import share


def test_accuracy_and_unparsed_share_count_every_answer_once():
    result = accuracy(["correct", "wrong", "no_answer", "several_answers", "truncated"])
    assert result.accuracy == share(1, 5)
    assert result.unparsed == share(3, 5)


def test_no_answers_have_no_accuracy():
    with pytest.raises(TriptychError):
        accuracy([])
