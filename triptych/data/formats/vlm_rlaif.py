"""Rows of VLM-RLAIF (arXiv:2402.03746, https://github.com/yonseivnl/vlm-rlaif): turns about the frames of one clip.

    SFT_short, SFT_long, PPO_init  {"id": "1", "src_data": "...", "conversations": [human, gpt, ...],
                                    "images": ["v_1/01.jpg", ..., "v_1/50.jpg"]}
    RL_data                        the same with "uid": 7; PPO asks the first question
    RM_13b                         the same with "output_1": gpt, "output_2": gpt, "preference": 1 or 2; the last turn
                                   of the conversation is where the two belong, and is not read

Each file is one JSON list of up to 700 MB and is read an item at a time. `<image>` in a turn of `human` stands for the
clip and moves to the front. A clip is its folder of frames, so the frames of a row must be all there is in one folder,
in the order of their names; `meta["vlm_rlaif"]` keeps those names, and `meta["video"]` says that all are to be seen
where they are more than the 50 of the default policy. A file holds rows of one of the three layouts. Turns
may name their speaker `from`, as the code has it, or `role`, as its documentation has it.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from triptych.data.formats.capabilities import Capabilities, Held
from triptych.data.formats.content import media_items, require_paths
from triptych.data.formats.conversations import (
    answer_text,
    conversation_id,
    count_conversation_losses,
    group_per_answer,
    join_answers,
    place_media,
    prompt_turns,
    read_turns,
)
from triptych.data.formats.gather import read_gathered
from triptych.data.formats.reading import imported, other_fields, row_id
from triptych.data.formats.report import ConversionReport
from triptych.data.formats.writing import (
    OneKind,
    refuse_suffix,
    require_media_outside_system,
    write_each,
    write_json,
)
from triptych.data.media import resolve_media
from triptych.data.sampling import META, FrameSampling, clips_of
from triptych.errors import DataError
from triptych.group import Group, Pair

HOLDS = Capabilities(
    pairs=Held.YES,
    demonstrations=Held.YES,
    questions=Held.YES,
    unpaired=Held.LOST,
    verdicts=Held.LOST,
    shared_half=Held.LOST,
    pair_source=Held.LOST,
    margin=Held.LOST,
    judge=Held.LOST,
    answer=Held.LOST,
    meta=Held.PART,
    system=Held.LOST,
    turns=Held.YES,
    tools=Held.OUT,
    documents=Held.OUT,
    text_only=Held.YES,
    images=Held.OUT,
    several_images=Held.OUT,
    placed_images=Held.OUT,
    videos=Held.YES,
    image_bytes=Held.OUT,
)
_OUTPUTS = ("output_1", "output_2")
_GOLD = "gold"
_CARRIED = ("src_data", "caption_type", "length_bonus")
"""Fields of a row that nothing here reads; they are kept in `meta` and written back."""
_KNOWN = {"id", "uid", "conversations", "images", "preference", "system", *_OUTPUTS}
_OWN = "vlm_rlaif"
_HELD_META = (_OWN, *_CARRIED)
_NUM_FOLDERS = 1024


def matches(row: dict[str, Any]) -> bool:
    """Say whether the first row of a file looks like VLM-RLAIF's: several frames, but no more than one `<image>`."""
    if "conversations" not in row or "chosen" in row:
        return False
    frames = row.get("images")
    if not isinstance(frames, list) or len(frames) < 2:
        return any(name in row for name in ("output_1", "src_data", "uid"))
    return str(row["conversations"]).count("<image>") <= 1


def read(path: str | Path, root: str | Path | None = None, report: ConversionReport | None = None) -> Iterator[Group]:
    """Iterate over the groups of a .json list, .jsonl or .parquet file; many rows wait on disk, to gather prompts.

    Raises:
        DataError: a fault of the whole file and, without a report, the first row that cannot be converted.
    """
    report = report or ConversionReport(strict=True)
    frames_of = _listing(root)
    yield from read_gathered(path, lambda row: _groups(row, root, frames_of, report), report)


def write(
    groups: Iterable[Group],
    path: str | Path,
    report: ConversionReport | None = None,
    root: str | Path | None = None,
) -> ConversionReport:
    """Write a .json list or a .jsonl file in the layout that the first group asks for, atomically.

    Args:
        groups: pairs make the layout of RM_13b, answers that of SFT, prompts that of RL_data.
        path: the file.
        report: counts what is lost.
        root: the data root, where the frames of a clip are looked up unless its `meta` names them.

    Raises:
        DataError: kind `unsupported_suffix` and, without a report, the first group that cannot be written.
    """
    report, path = report or ConversionReport(strict=True), Path(path)
    refuse_suffix(path, (".json", ".jsonl"))
    writer = _Writer(report, root)
    write_json(path, write_each(join_answers(groups, report, HOLDS, held=(*_HELD_META, META)), writer.rows, report))
    return report


def _groups(
    row: dict[str, Any],
    root: str | Path | None,
    frames_of: Callable[[str], tuple[str, ...] | None],
    report: ConversionReport,
) -> list[Group]:
    videos, own = _clip(row.get("images"), root, frames_of)
    turns = row.get("conversations")
    if isinstance(turns, list) and len(turns) == 1 and isinstance(turns[0], list):
        turns = turns[0]
    messages = read_turns(turns, row.get("system"), report)
    for message in messages:
        if message["role"] == "user" and "<image>" in message["content"]:
            message["content"] = ("<video>\n" + message["content"].replace("<image>", "").strip()).strip()
    place_media(messages, [], videos, report)
    row_own_id = row_id(row, messages, videos, field="id" if "id" in row else "uid")
    base = {"id": row_own_id, "videos": videos, "meta": other_fields(row, _KNOWN, report)}
    if "output_1" in row or "output_2" in row:
        return [_preference(row, base, own, messages)]
    if "uid" in row:
        return [_first_question(row, base, own, messages)]
    return group_per_answer(_with_own(base, own), messages)


def _clip(
    frames: Any, root: str | Path | None, frames_of: Callable[[str], tuple[str, ...] | None]
) -> tuple[list[str], dict[str, Any]]:
    """Return the folder of the frames, if there are any, and their names for `meta`.

    Raises:
        DataError: kinds `frames_scattered`, `frames_out_of_order`, `frames_unlike_folder` and those of paths.
    """
    paths = media_items(frames, root)
    require_paths(paths)
    if not paths:
        return [], {}
    split = [path.rpartition("/") for path in paths]
    folders, names = sorted({folder or "." for folder, _, _ in split}), [name for _, _, name in split]
    if len(folders) > 1:
        problem = f"The frames lie in {len(folders)} folders, such as {folders[0]!r} and {folders[1]!r}."
        raise DataError(problem, remedy="Put the frames of a clip into a folder of their own.", kind="frames_scattered")
    for before, after in itertools.pairwise(names):
        if before >= after:
            problem = f"Frame {before!r} comes before {after!r}, and a folder of frames is read in the order of names."
            remedy = "Rename the frames with leading zeros, in the folders and in the rows."
            raise DataError(problem, remedy=remedy, kind="frames_out_of_order")
    found = frames_of(folders[0])
    if found is not None and found != tuple(names):
        problem = f"The row lists {len(names)} frames of {folders[0]!r}, which holds {len(found)}, or others."
        remedy = "Keep the frames that are listed, and nothing else, in a folder of their own."
        raise DataError(problem, remedy=remedy, kind="frames_unlike_folder")
    return folders, {"frames": names}


def _listing(root: str | Path | None) -> Callable[[str], tuple[str, ...] | None]:
    """Return what lists the frames of a folder below the root; it remembers the folders it saw last."""
    return functools.lru_cache(maxsize=_NUM_FOLDERS)(functools.partial(_frames_below, root))


def _frames_below(root: str | Path | None, folder: str) -> tuple[str, ...] | None:
    """Return the names of the frames in a folder below the root, or None where it is not there."""
    if root is None:
        return None
    place = resolve_media(folder, root)
    if not place.is_dir():
        return None
    return tuple(sorted(item.name for item in place.iterdir() if item.is_file() and not item.name.startswith(".")))


def _with_own(base: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Return the base of a group with `own` in its `meta`, and a policy that sees all frames."""
    policy = FrameSampling(num_frames=max(len(own.get("frames", [])), FrameSampling().num_frames)).to_dict()
    marks = {_OWN: own, META: policy}
    return {**base, "meta": {**base["meta"], **{name: mark for name, mark in marks.items() if mark}}}


def _preference(
    row: dict[str, Any], base: dict[str, Any], own: dict[str, Any], messages: list[dict[str, Any]]
) -> Group:
    texts = [answer_text(row.get(name), name) for name in _OUTPUTS]
    better = row.get("preference")
    if better not in (1, 2) or isinstance(better, bool):
        problem, remedy = f"The preference is {better!r}.", "Write 1 or 2, and leave ties out."
        raise DataError(problem, remedy=remedy, kind="preference_unknown")
    if texts[0] == texts[1]:
        problem, remedy = "The chosen and the rejected answer are the same text.", "Leave the pair out."
        raise DataError(problem, remedy=remedy, kind="pair_identical_text")
    if messages[-1]["role"] != "assistant":
        problem, remedy = "The conversation ends with human.", "End it with the turn of gpt that the outputs replace."
        raise DataError(problem, remedy=remedy, kind="turns_not_alternating")
    replaced = messages[-1]["content"][0]["text"]
    if replaced.strip() and replaced not in texts:
        own = {**own, "last_turn": replaced}
    answers = {
        "completions": [imported(text) for text in texts],
        "pairs": [{"chosen": better - 1, "rejected": 2 - better}],
    }
    return Group.from_row({**_with_own(base, own), "prompt": messages[:-1], **answers})


def _first_question(
    row: dict[str, Any], base: dict[str, Any], own: dict[str, Any], messages: list[dict[str, Any]]
) -> Group:
    """Return the prompt that PPO asks, the answer of the data set and, in `meta`, the turns that it does not read.

    The answer is gold: where preferences are made of the prompt, answers of the policy are compared, not this one.
    """
    end = next(index for index, message in enumerate(messages) if message["role"] == "user") + 1
    answer = messages[end]["content"][0]["text"] if end < len(messages) else ""
    later = ["".join(part.get("text", "") for part in message["content"]) for message in messages[end + 1 :]]
    own = {**own, "uid": row["uid"], **({"later_turns": later} if later else {})}
    completions = [{"text": answer, "source": _GOLD}] if answer.strip() else []
    return Group.from_row({**_with_own(base, own), "prompt": messages[:end], "completions": completions})


class _Writer:
    def __init__(self, report: ConversionReport, root: str | Path | None) -> None:
        self.report, self.kind, self.num_questions = report, OneKind(), 0
        self.frames_of = _listing(root)

    def rows(self, group: Group) -> list[dict[str, Any]]:
        """Return the rows of a group in the layout of the file."""
        kind = "preference pairs" if group.pairs else "answers" if group.completions else "prompts"
        self.kind.require(kind)
        frames = self._frames(group)
        turns = [_turn(role, text) for role, text in prompt_turns(group, self.report) if role != "system"]
        if kind == "prompts" and len(turns) > 1:
            problem, remedy = "PPO asks the first question of a row, and the prompt has several turns.", "Leave it out."
            raise DataError(problem, remedy=remedy, kind="format_several_turns")
        seen = clips_of(group)[0].sampling if group.videos else FrameSampling()
        whole = seen == FrameSampling(num_frames=max(seen.num_frames, len(frames.get("images", []))))
        own = group.meta.get(_OWN) or {}
        counted = _with_answers_imported(group) if "uid" in own else group  # which reading makes gold again
        count_conversation_losses(counted, self.report, HOLDS, held=(*_HELD_META, META) if whole else _HELD_META)
        base = {**self._ids(group, own, kind), **{name: group.meta[name] for name in _CARRIED if name in group.meta}}
        texts = [completion.text for completion in group.completions]
        if kind == "preference pairs":
            ending = [_turn("assistant", own.get("last_turn", ""))]
            return [
                {**base, "conversations": turns + ending, **_outputs(pair, texts), **frames} for pair in group.pairs
            ]
        later = [_turn(("user", "assistant")[n % 2], text) for n, text in enumerate(own.get("later_turns", []))]
        endings = [[_turn("assistant", text), *later] for text in texts or [""]]
        return [{**base, "conversations": turns + ending, **frames} for ending in endings]

    def _ids(self, group: Group, own: dict[str, Any], kind: str) -> dict[str, Any]:
        """Return `id` and, where PPO needs one, the number `uid`."""
        name = conversation_id(group)
        if "uid" in own:
            return {"uid": own["uid"]} | ({} if str(own["uid"]) == name else {"id": name})
        if kind != "prompts":
            return {"id": name}
        self.num_questions += 1
        return {"id": name, "uid": self.num_questions}

    def _frames(self, group: Group) -> dict[str, list[str]]:
        reason = None
        if group.images:
            reason = ("format_no_image", "The row shows pictures; VLM-RLAIF's show one clip.", "Use another format.")
        elif len(group.videos) > 1:
            reason = ("format_several_videos", "The row shows several clips.", "VLM-RLAIF's rows show one.")
        elif any(part["type"] == "video" for message in group.prompt for part in message["content"][1:]):
            reason = ("format_media_first", "The clip follows text.", "VLM-RLAIF puts it first.")
        if reason is not None:
            raise DataError(reason[1], remedy=reason[2], kind=reason[0])
        require_media_outside_system(group)
        if not group.videos:
            return {}
        require_paths(group.videos)
        folder = str(group.videos[0])
        names = (group.meta.get(_OWN) or {}).get("frames") or self.frames_of(folder)
        if not names:
            problem, remedy = f"The clip {folder!r} is no folder of frames.", "Extract its frames into a folder."
            raise DataError(problem, remedy=remedy, kind="video_not_a_folder")
        start = "" if folder == "." else folder.rstrip("/") + "/"
        return {"images": [start + name for name in names]}


def _with_answers_imported(group: Group) -> Group:
    answers = [replace(item, source="imported") if item.source == _GOLD else item for item in group.completions]
    return replace(group, completions=answers)


def _outputs(pair: Pair, texts: list[str]) -> dict[str, Any]:
    first, second = sorted((pair.chosen, pair.rejected))
    outputs = {name: _turn("assistant", texts[index]) for name, index in zip(_OUTPUTS, (first, second), strict=True)}
    return {**outputs, "preference": 1 if pair.chosen == first else 2}


def _turn(role: str, text: str) -> dict[str, str]:
    return {"from": "human" if role == "user" else "gpt", "value": text.replace("<video>", "<image>")}
