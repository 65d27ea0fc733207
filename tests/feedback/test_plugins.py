import pytest

from triptych.errors import TriptychError
from triptych.feedback.plugins import resolve_function
from triptych.group import Group, text_message


def test_a_function_is_found_by_its_import_path():
    assert resolve_function("json:loads", "splitter")("[1]") == [1]


@pytest.mark.parametrize("path", ["json.loads", "no_such_module:split", "json:no_such_function"])
def test_an_error_says_what_the_function_was_for(path):
    with pytest.raises(TriptychError, match=f"splitter '{path}'"):
        resolve_function(path, "splitter")


def fails(text, group):
    """A scorer with a fault."""
    return text[group.meta["at"]]


def test_what_a_function_raises_names_it_its_row_and_the_line_at_fault():
    scorer = resolve_function(f"{__name__}:fails", "scorer")
    group = Group("g7", [text_message("user", "Hi.")], meta={"at": 2})
    assert scorer("abc", group) == "c" and scorer.__doc__ == "A scorer with a fault."
    line = fails.__code__.co_firstlineno + 2
    with pytest.raises(TriptychError, match=rf"scorer .*:fails' failed on row g7 with IndexError: .*line {line}\)"):
        scorer("", group)
