"""What can be wrong with rows for one model, found before anything is computed with it.

All rows are looked at, but no picture is decoded: texts are tokenised, and of pictures the header is read; of a video
file the first frame is decoded and the last one looked for. Each fault names its row; together they are one error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from triptych.data.media import image_size
from triptych.data.media_check import MOST_FAULTS, joined
from triptych.data.sampling import Clip, clips_of
from triptych.data.video import VideoShape, probe_video
from triptych.engine.encode import Encoder
from triptych.engine.families import Family
from triptych.engine.pairs import PairRow
from triptych.engine.progress import Progress
from triptych.engine.video_texts import VideoTexts
from triptych.errors import DataError
from triptych.group import Group, Media, Pair

ROWS_AT_ONCE = 512
_Size = tuple[int, int] | VideoShape | DataError
"""Width and height of a picture, shape of a video, or what is wrong with either."""


@dataclass
class _Unit:
    """A group of the data with the pairs that are trained on."""

    group: Group
    root: Path
    pairs: list[Pair] = field(default_factory=list)
    file: str | None = None
    """That the group comes from."""

    @property
    def completions(self) -> list[int]:
        """Indices of the completions that pairs name."""
        return sorted({index for pair in self.pairs for index in (pair.chosen, pair.rejected)})


def check_before_training(encoder: Encoder, rows: Sequence[PairRow], row_tokens: int) -> dict[str, int]:
    """Find every row that cannot be trained on, in one fast pass.

    Args:
        encoder: of the model.
        rows: all pairs of the run.
        row_tokens: most tokens of a packed row.

    Returns:
        per group name the tokens it takes in the packed trie: prompt and media once, shared beginnings of completions
        once. Exact but for markers that some processors put around pictures, and for pictures in company where their
        number of tokens depends on it; then too low.

    Raises:
        DataError: of the kind of the first fault, which it describes; the other rows are listed. Kinds are those of
            `triptych.data.media` and `triptych.data.video`, and `no_chat_template`, `template_refused`,
            `template_without_image`, `placeholder_in_text`, `video_unsupported`, `video_lengths`, `processor_refused`,
            `no_targets`, `pair_same_tokens`, `too_long`.
    """
    units: dict[str, _Unit] = {}
    for row in rows:
        units.setdefault(row.name, _Unit(row.group, row.root, file=row.file)).pairs.append(row.pair)
    return _check_all(units, _Checker(encoder, row_tokens))


def check_prompts(
    encoder: Encoder,
    prompts: Mapping[str, tuple[Group, Path]],
    row_tokens: int,
    new_tokens: int,
    files: Mapping[str, str] | None = None,
) -> dict[str, int]:
    """Find every prompt that cannot be answered, or not in `new_tokens` tokens, in one fast pass.

    Args:
        prompts: by name the group and the data root of its media; completions are passed over.
        files: by name the file that the group comes from, for errors.

    Returns:
        tokens of each prompt, as exact as in `check_before_training`.

    Raises:
        DataError: see `check_before_training`.
    """
    units = {name: _Unit(group, root, file=(files or {}).get(name)) for name, (group, root) in prompts.items()}
    return _check_all(units, _Checker(encoder, row_tokens, new_tokens))


def _check_all(units: Mapping[str, _Unit], check: _Checker) -> dict[str, int]:
    """Return the tokens of each unit, or raise the faults of all."""
    lengths: dict[str, int] = {}
    faults: list[DataError] = []
    with Progress("check", len(units), unit="prompt") as bar:
        names = iter(units)
        while (part := list(islice(names, ROWS_AT_ONCE))) and len(faults) < MOST_FAULTS:
            for name, (length, found) in zip(part, check.part([units[name] for name in part]), strict=True):
                lengths[name] = length
                faults += [fault.located(file=units[name].file, row=units[name].group.id) for fault in found]
            bar.advance(len(part))
    if faults:
        raise _joined(faults, check.longest)
    return lengths


class _Checker:
    """Checks groups; knows how many tokens pictures and texts take."""

    def __init__(self, encoder: Encoder, row_tokens: int, new_tokens: int = 0) -> None:
        self._encoder, self._row_tokens, self._new_tokens = encoder, row_tokens, new_tokens
        self._tokenizer = encoder.tokenizer
        self._limit = _context_limit(encoder.family)
        self._image_tokens = _image_token_counter(encoder)
        self._video_texts = VideoTexts(encoder) if encoder.family.packed and encoder.family.takes_videos else None
        self._sizes: dict[tuple[Path, str | int], _Size] = {}
        self._num_special = len(self._tokenizer("a")["input_ids"]) - len(self._ids(["a"])[0])
        self.longest = 0

    def part(self, units: Sequence[_Unit]) -> Iterator[tuple[int, list[DataError]]]:
        """Yield tokens and faults of each group."""
        texts, more_tokens, faults = zip(*(self._prompt(unit) for unit in units), strict=True)
        prompts = self._ids(texts)
        answers = iter(self._ids([unit.group.completions[n].text for unit in units for n in unit.completions]))
        for unit, text, ids, more, found in zip(units, texts, prompts, more_tokens, faults, strict=True):
            num_prompt = len(ids) + (0 if self._starts_with_bos(text) else self._num_special) + more
            own = {n: self._closed(next(answers), unit.group.completions[n].truncated) for n in unit.completions}
            found = [*found, *self._pair_faults(unit, own), *self._length_faults(own, num_prompt)]
            yield num_prompt + _trie_tokens(list(own.values())), found

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        return self._tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []

    def _starts_with_bos(self, text: str) -> bool:
        return bool(self._tokenizer.bos_token) and text.startswith(self._tokenizer.bos_token)

    def _closed(self, ids: list[int], truncated: bool | None) -> list[int]:
        return ids if truncated else ids + self._encoder.end_of_turn

    def _prompt(self, unit: _Unit) -> tuple[str, int, list[DataError]]:
        """Return the text of the prompt, how many tokens media add to it, and what is wrong with it or its media."""
        processor, group, sizes = self._encoder.processor, unit.group, self._media(unit)
        faults = [size for size in sizes if isinstance(size, DataError)]
        try:
            text = self._encoder.prompt_text(group)
        except DataError as error:
            without = error.kind == "template_refused" and not processor.chat_template
            return "", 0, [*faults, _no_chat_template() if without else error]
        if not self._encoder.family.packed:  # its processor alone knows how placeholders look
            return text, 0, faults
        placeholder = self._encoder.family.image_placeholder(processor)
        if (found := text.count(placeholder)) != len(group.images) and not group.videos:
            faults.append(_placeholders(found, len(group.images), placeholder))
        if faults:
            return text, 0, faults
        return self._with_media(text, sizes[: len(group.images)], sizes[len(group.images) :])

    def _with_media(
        self, text: str, pictures: list[tuple[int, int]], videos: list[VideoShape]
    ) -> tuple[str, int, list[DataError]]:
        """Return the text with what surrounds the tokens of videos, and how many tokens media add to those of it."""
        more = self._image_tokens(pictures) - len(pictures)
        if not videos:
            return text, more, []
        try:
            text, left_out = self._video_texts.fill(text, videos)
        except DataError as error:
            return text, 0, [error]
        return text, more + left_out, []

    def _media(self, unit: _Unit) -> list[_Size]:
        """Return the size of each picture and the shape of each video, or what is wrong with it.

        A file is read once.
        """
        found = []
        try:
            videos: Sequence[Clip] = clips_of(unit.group)
        except DataError as error:
            return [error]
        for item in (*unit.group.images, *videos):
            key = (unit.root, item if isinstance(item, str) else hash(item))
            if key not in self._sizes:
                self._sizes[key] = _size(item, unit.root, is_image=len(found) < len(unit.group.images))
            found.append(self._sizes[key])
        return found

    def _pair_faults(self, unit: _Unit, ids: Mapping[int, list[int]]) -> Iterator[DataError]:
        family = self._encoder.family
        for n, own in ids.items():
            if {family.image_token_id, family.video_token_id} & set(own):
                yield _fault(
                    "placeholder_in_text",
                    f"Completion {n} spells out the image placeholder of this model in its text.",
                    "Take the placeholder out of the text; pictures are parts of their own.",
                )
            if not own:
                yield _fault(
                    "no_targets",
                    f"Completion {n} has no token to predict; its loss would be 0.",
                    "Drop the pairs it is in, or sample it again with a higher max_new_tokens.",
                )
        for pair in unit.pairs:
            if ids[pair.chosen] and ids[pair.chosen] == ids[pair.rejected]:
                yield _fault(
                    "pair_same_tokens",
                    f"Completions {pair.chosen} (chosen) and {pair.rejected} (rejected) are the same tokens for this "
                    "model, so that the pair prefers nothing.",
                    "Drop the pair.",
                )

    def _length_faults(self, ids: Mapping[int, list[int]], num_prompt: int) -> Iterator[DataError]:
        lengths = {f"Completion {n} takes {len(own)} tokens": len(own) for n, own in ids.items()}
        if self._new_tokens:
            lengths[f"An answer may take {self._new_tokens} tokens"] = self._new_tokens
        for what, length in lengths.items():
            total = num_prompt + length
            what = f"{what} after a prompt of {num_prompt}, together {total}"
            if total > self._row_tokens:
                self.longest = max(self.longest, total)
                yield _fault(
                    "too_long",
                    f"{what}; a row holds {self._row_tokens}.",
                    "Raise `row_tokens`, shorten the text, or lower the resolution of the pictures.",
                )
            elif self._limit and total > self._limit:
                yield _fault(
                    "too_long",
                    f"{what}; the model has positions for {self._limit}.",
                    "Shorten the text, lower the resolution of the pictures, or choose a model with a longer context.",
                )


def _size(item: Media | Clip, root: Path, *, is_image: bool) -> _Size:
    try:
        return image_size(item, root) if is_image else probe_video(item, root)
    except DataError as error:
        return error


def _image_token_counter(encoder: Encoder) -> Callable[[Sequence[tuple[int, int]]], int]:
    """Return a function from the sizes (width, height) of a prompt's pictures to the tokens they take, at least."""
    count = getattr(encoder.processor, "_get_num_multimodal_tokens", None)  # transformers has it for inference engines
    company_counts = encoder.family.config.model_type == "llava_onevision"  # a picture among others is not tiled

    def tokens(sizes: Sequence[tuple[int, int]]) -> int:
        fixed = getattr(encoder.processor, "tokens_per_image", None)
        if fixed is not None:
            return fixed * len(sizes)
        if count is None or not sizes or (company_counts and len(sizes) > 1):
            return len(sizes)
        return sum(count(image_sizes=[(height, width) for width, height in sizes])["num_image_tokens"])

    return tokens


def _context_limit(family: Family) -> int | None:
    """Return how many positions the model was made for; None where they are scaled, or do not count tokens."""
    config: Any = family.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    plain = rope.get("rope_type", "default") == "default" and not any(isinstance(v, dict) for v in rope.values())
    counts_tokens = type(family).position_ids is Family.position_ids
    return getattr(config, "max_position_embeddings", None) if plain and counts_tokens else None


def _trie_tokens(paths: list[list[int]]) -> int:
    """Return the nodes of the trie of token lists: in sorted order each shares most with the one before it."""
    paths = sorted(paths)
    shared = sum(_common(first, second) for first, second in pairwise(paths))
    return sum(map(len, paths)) - shared


def _common(first: list[int], second: list[int]) -> int:
    return next(
        (n for n, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), min(len(first), len(second))
    )


def _fault(kind: str, problem: str, remedy: str) -> DataError:
    return DataError(problem, remedy=remedy, kind=kind)


def _no_chat_template() -> DataError:
    return _fault(
        "no_chat_template",
        "The processor of this model has no chat template.",
        "Put the chat_template.jinja of the model, or of the one it was trained from, into its folder.",
    )


def _placeholders(found: int, wanted: int, placeholder: str) -> DataError:
    problem = (
        f"The text made of this prompt holds {found} image placeholder(s) {placeholder!r} for {wanted} picture(s)."
    )
    if found > wanted:
        remedy = "Take the placeholder out of the text; pictures are parts of their own."
        return _fault("placeholder_in_text", problem, remedy)
    remedy = "Give the processor a chat template that writes its image placeholder for image parts."
    return _fault("template_without_image", problem, remedy)


def _joined(faults: Sequence[DataError], longest: int) -> DataError:
    """Return the first fault, with the other rows and, for lengths, what would hold them all."""
    first = joined(faults)
    if longest:
        first.remedy += f" The longest needs `row_tokens` of {longest}."
    return first
