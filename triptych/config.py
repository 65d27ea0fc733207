"""Configurations: plain typed dataclasses, read from YAML and dotted overrides, and written back.

Every stage has one dataclass; its annotations are the schema, its defaults the documentation, and the string under each
field the help text. Reading is strict: an unknown key, a value of the wrong type or a missing field is an error that
says what was meant.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import ArgumentParser, set_parsing_settings

from triptych.data.files import write_text_atomic
from triptych.errors import TriptychError

T = TypeVar("T")

# Exponents without a point (1e-5) are floats in YAML 1.2 and in every reader's mind; PyYAML follows YAML 1.1.
_FLOAT = re.compile(r"[-+]?(?:\d+(?:\.\d*)?|\.\d+)[eE][-+]?\d+\Z")

set_parsing_settings(docstring_parse_attribute_docstrings=True)


class _Loader(yaml.SafeLoader):
    """Safe YAML where `1e-5` is a float and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{', '.join(twice)} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Safe YAML that quotes the strings `_Loader` would read as floats."""


class _Word(str):
    """A value from the command line, to be read by the type of its field."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def load_config(
    cls: type[T], path: str | Path | None = None, overrides: Mapping[str, Any] | Sequence[str] | None = None
) -> T:
    """Build a config dataclass from its defaults, a YAML file and overrides, each stronger than the one before.

    Args:
        cls: the dataclass. Fields may be nested dataclasses, lists and dicts of them, `Literal`, and unions with None.
        path: a YAML file with a mapping; None for none.
        overrides: either a mapping from (dotted) keys to values, or command-line words such as
            `["--optimizer.learning_rate", "1e-5", "--seed=3"]`. Words are read by the type of their field.

    Raises:
        TriptychError: an unknown key (with the nearest known one), a wrong type, a missing required field, a malformed
            file, or what the `__post_init__` of a dataclass refuses.
    """
    values: dict[str, Any] = {}
    if path is not None:
        content = read_yaml(path)
        if not isinstance(content, dict | None):
            raise TriptychError(f"{path} holds a {type(content).__name__}; a configuration is a mapping of keys.")
        for key, value in (content or {}).items():
            values = _merged(values, _nest(str(key), value))
    if not isinstance(overrides, Mapping):
        overrides = words_to_overrides(overrides or ())
    for key, value in overrides.items():
        values = _merged(values, _nest(key, value))
    return _build(cls, values, list(_dotted_keys(cls)))


def config_parser(cls: type, **texts: str) -> ArgumentParser:
    """Return a parser whose help lists every field of a config dataclass with type, default and docstring.

    Args:
        cls: the dataclass.
        texts: `prog`, `usage`, `description` and `epilog` of the help, as in argparse.
    """
    parser = ArgumentParser(exit_on_error=False, **texts)
    parser.add_class_arguments(cls)
    return parser


def words_to_overrides(words: Iterable[str]) -> dict[str, str]:
    """Turn `--a.b 1 --c=2` into `{"a.b": "1", "c": "2"}`.

    Raises:
        TriptychError: a word that is neither an option nor its value, or an option without a value.
    """
    overrides, words = {}, iter(words)
    for word in words:
        name, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not name:
            raise TriptychError(f"Unexpected word {word!r}; options are written as --key value.")
        if not equals:
            try:
                value = next(words)
            except StopIteration:
                raise TriptychError(f"--{name} lacks a value; options are written as --key value.") from None
        overrides[name.replace("-", "_")] = _Word(value)
    return overrides


def read_yaml(path: str | Path) -> Any:
    """Read a YAML file safely.

    Raises:
        TriptychError: the file is missing or malformed, or gives a key twice.
    """
    try:
        return yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise TriptychError(f"Cannot read the configuration {path}: {error.strerror}. Check the path.") from None
    except (yaml.YAMLError, ValueError) as error:  # a date such as 2026-02-30 is a ValueError
        raise TriptychError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from None


def config_dict(config: Any) -> dict[str, Any]:
    """Return a config dataclass as JSON-ready values: paths become strings, tuples become lists."""
    return _plain(dataclasses.asdict(config))


def config_text(config: Any) -> str:
    """Return a config dataclass as YAML that `load_config` reads back to an equal one."""
    return yaml.dump(config_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def save_config(config: Any, path: str | Path) -> None:
    """Write `config_text` to a file, atomically."""
    write_text_atomic(path, config_text(config))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def _nest(dotted: str, value: Any) -> Any:
    """Turn the key `a.b` and a value into `{"a": {"b": value}}`."""
    for part in reversed(dotted.split(".")):
        value = {part: value}
    return value


def _merged(old: Any, new: Any) -> Any:
    """Merge mappings key by key, `new` being the stronger; anything else is replaced. Neither is changed."""
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return new
    return {**old, **{key: _merged(old.get(key), value) for key, value in new.items()}}


def _build(cls: type[T], values: Any, known: list[str], prefix: str = "", default: T | None = None) -> T:
    """Build a dataclass from plain values; fields not given are those of `default`, or of the class.

    Dataclasses are built here and not by jsonargparse, which would import and call whatever a `class_path` inside an
    untyped value names.
    """
    if not isinstance(values, Mapping):
        raise TriptychError(f"`{prefix.rstrip('.')}` must be a mapping of the keys of {cls.__name__}, not {values!r}.")
    types = _field_types(cls)
    for key in values:
        if key not in types:
            near = _nearest(f"{prefix}{key}", known)
            hint = f"Did you mean `{near}`?" if near else f"Known keys: {', '.join(sorted(types))}."
            raise TriptychError(f"Unknown key `{prefix}{key}`. {hint}")
    defaults = _defaults(cls) if default is None else {name: getattr(default, name) for name in types}
    if missing := types.keys() - values.keys() - defaults.keys():
        names = ", ".join(f"`{prefix}{name}`" for name in sorted(missing))
        raise TriptychError(f"No value for {names}. Give one in the configuration file or as --key value.")
    given = {
        name: _convert(types[name], value, known, prefix + name, defaults.get(name)) for name, value in values.items()
    }
    try:
        return cls(**given) if default is None else dataclasses.replace(default, **given)
    except TriptychError:
        raise
    except ValueError as error:
        raise TriptychError(str(error)) from error


def _convert(hint: Any, value: Any, known: list[str], key: str, default: Any) -> Any:
    """Return `value` in the type of its field."""
    inner, kind = _nested(hint), get_origin(hint)
    if inner is None and not _is_untyped(hint):
        return _convert_leaf(hint, value, key)
    if isinstance(value, _Word) or (inner and isinstance(value, str)):
        value = _parse_yaml(value, key)
    if value is None and type(None) in get_args(hint):
        return None
    if kind in (list, dict) and not isinstance(value, kind):
        raise TriptychError(f"`{key}` must be {_type_text(hint)}, not {value!r}.")
    if inner is None:
        return _convert_words(value, key)
    if kind is list:
        return [_build(inner, item, known, f"{key}.{number}.") for number, item in enumerate(value)]
    if kind is dict:
        return {name: _build(inner, item, known, f"{key}.{name}.") for name, item in value.items()}
    return _build(inner, value, known, f"{key}.", default if isinstance(default, inner) else None)


def _convert_leaf(hint: Any, value: Any, key: str) -> Any:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    plain = str(value) if isinstance(value, _Word) else value
    if get_origin(hint) is list and isinstance(value, _Word) and not value.startswith("["):
        plain = [plain]  # --data pairs.jsonl is meant as a list of one
    try:
        return parser.parse_object({"value": plain}).value
    except argparse.ArgumentError:
        raise TriptychError(f"`{key}` must be {_type_text(hint)}, not {plain!r}.") from None


def _convert_words(value: Any, key: str) -> Any:
    """Read the command-line words inside an untyped value as YAML; what comes from a file stays as it is."""
    if isinstance(value, dict):
        return {name: _convert_words(item, f"{key}.{name}") for name, item in value.items()}
    return _parse_yaml(value, key) if isinstance(value, _Word) else value


def _parse_yaml(text: str, key: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, ValueError):
        raise TriptychError(f"`{key}` is not valid YAML: {str(text)!r}.") from None


def _defaults(cls: type) -> dict[str, Any]:
    """Return the default of every field that has one."""
    none, defaults = dataclasses.MISSING, {}
    for field in dataclasses.fields(cls):
        if field.default is not none or field.default_factory is not none:
            defaults[field.name] = field.default_factory() if field.default is none else field.default
    return defaults


def _nested(hint: Any) -> type | None:
    """Return the dataclass inside an annotation such as `X | None`, `list[X]` or `dict[str, X]`, if there is one."""
    if dataclasses.is_dataclass(hint):
        return hint
    return next((inner for argument in get_args(hint) if (inner := _nested(argument))), None)


def _dotted_keys(cls: type, prefix: str = "") -> Iterator[str]:
    for name, hint in _field_types(cls).items():
        yield prefix + name
        if inner := _nested(hint):
            yield from _dotted_keys(inner, f"{prefix}{name}.")


def _field_types(cls: type) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls) if field.init}


def _is_untyped(hint: Any) -> bool:
    return hint is Any or any(map(_is_untyped, get_args(hint)))


def _nearest(key: str, known: list[str]) -> str | None:
    """Return the known dotted key that `key` most likely stands for: its last part elsewhere, or a near spelling."""
    same_leaf = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.7)
    return next(iter(same_leaf + close), None)


def _type_text(hint: Any) -> str:
    """Write an annotation for people: `int or null`, `'adamw' or 'muon'`, `list[str]`."""
    arguments = get_args(hint)
    if get_origin(hint) is Literal:
        return " or ".join(map(repr, arguments))
    if get_origin(hint) in (Union, UnionType):
        return " or ".join(map(_type_text, arguments))
    if arguments:
        return f"{get_origin(hint).__name__}[{', '.join(map(_type_text, arguments))}]"
    return "null" if hint is type(None) else getattr(hint, "__name__", str(hint))
