"""VQA accuracy against ten human answers (Antol et al. 2015, arXiv:1505.00468; TextVQA and VizWiz use the same).

For published comparability the normalisation is that of the EvalAI server, with its oddities: "none" counts as 0, and
hyphens are dropped or become blanks depending on their neighbours. To decide which completion is right, use
`triptych.feedback.checking`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from triptych.errors import TriptychError

NUM_HUMAN_ANSWERS = 10

_ARTICLES = frozenset({"a", "an", "the"})
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_DIGITS = {word: str(value) for value, word in enumerate(_NUMBER_WORDS.split())} | {"none": "0"}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`!'
_CONTRACTED = """
ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock
oughtn't 'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd
someone'd've someone'll someone's something'd something'd've something'll that's there'd there'd've there're there's
they'd they'd've they'll they're they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's
where'd where's where've who'd who'd've who'll who's who've why'll why're why's won't would've wouldn't wouldn't've
y'all y'all'll y'all'd've you'd you'd've you'll you're you've
"""


def _missing_apostrophe(word: str) -> list[str]:
    """Return the word with each one of its apostrophes left out."""
    return [word[:at] + word[at + 1 :] for at, char in enumerate(word) if char == "'"]


_CONTRACTIONS = {plain: word for word in _CONTRACTED.split() for plain in _missing_apostrophe(word)}
_CONTRACTIONS["somebody'd"] = "somebodyd"


def normalise_vqa(text: str) -> str:
    """Return an answer as the EvalAI server compares it.

    Lower case; commas and question marks dropped; other punctuation dropped where it touches a blank anywhere in the
    text and made a blank otherwise; full stops dropped unless a digit follows; number words to ten in digits; articles
    dropped; apostrophes put back into contractions.
    """
    text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    text = text.replace("\n", " ").replace("\t", " ").strip()
    bare = text
    for mark in _PUNCTUATION:
        bare = bare.replace(mark, "" if f"{mark} " in text or f" {mark}" in text else " ")
    words = [_DIGITS.get(word, word) for word in re.sub(r"\.(?!\d)", "", bare).split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def vqa_accuracy(prediction: str, human_answers: Sequence[str]) -> float:
    """Return the accuracy of one answer in [0, 1]: the mean over leave-one-out sets of min(1, matches / 3).

    With m equal human answers among ten this is 0, 0.3, 0.6, 0.9, 1 for m = 0, 1, 2, 3, 4 or more.

    Raises:
        TriptychError: there are not ten human answers.
    """
    if len(human_answers) != NUM_HUMAN_ANSWERS:
        raise TriptychError(
            f"VQA accuracy needs {NUM_HUMAN_ANSWERS} human answers, there are {len(human_answers)}; "
            "repeat answers to reach ten (OK-VQA counts each of its five twice), or compare with a single truth."
        )
    answer = normalise_vqa(prediction)
    matches = [normalise_vqa(human) == answer for human in human_answers]
    return sum(min(1.0, (sum(matches) - match) / 3) for match in matches) / NUM_HUMAN_ANSWERS
