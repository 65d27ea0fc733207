"""Functions that a configuration names by their import path."""

from __future__ import annotations

import functools
import importlib
import traceback
from collections.abc import Callable
from typing import Any

from triptych.errors import TriptychError
from triptych.group import Group


def resolve_function(path: str, what: str) -> Callable[..., Any]:
    """Import a function from `package.module:function`.

    Args:
        path: the import path.
        what: what the function is for, as errors call it: `scorer`.
    Returns:
        the function; what it raises becomes a `TriptychError` that names it, the row where it was given one, and the
        line at fault.
    Raises:
        TriptychError: the path is malformed, the module cannot be imported, or it has no such function.
    """
    module_name, colon, name = path.partition(":")
    if not (module_name and colon and name):
        raise TriptychError(f"The {what} {path!r} is no import path; write it as package.module:function.")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, TypeError, ValueError) as error:  # the last two for names such as ".x"
        raise TriptychError(
            f"The module of the {what} {path!r} cannot be imported ({error}); "
            "check its name and that it is installed or on PYTHONPATH."
        ) from error
    function = getattr(module, name, None)
    if not callable(function):
        raise TriptychError(f"The module {module_name} has no function {name!r}; check the {what} {path!r}.")

    @functools.wraps(function)
    def named(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except TriptychError:
            raise
        except Exception as error:
            rows = [f" on row {item.id}" for item in args if isinstance(item, Group)]
            *_, place = traceback.extract_tb(error.__traceback__)
            raise TriptychError(
                f"The {what} {path!r} failed{''.join(rows[:1])} with {type(error).__name__}: {error} "
                f"({place.filename}, line {place.lineno}). Mend it to take any text, the empty one included."
            ) from error

    return named
