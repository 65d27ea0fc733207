"""The command `triptych`: a verb for each stage, for whole recipes, for reports and for data.

Nothing heavy is imported before a verb is chosen, and for the help of a stage only its configuration.

Under `torchrun` the verbs that train run on all ranks together, and any other on rank 0 while the rest wait.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from triptych.errors import TriptychError

FAULTY, REFUSED, STOPPED = 1, 2, 130
"""Exit codes: faults found by `data check`; a mistake in what was asked for; stopped by Ctrl-C."""

_RECIPE_FOLDERS = (Path(__file__).parent / "recipes", Path(__file__).parent.parent / "recipes")
"""Where the recipes are in an installed package, and in a checkout."""

_STAGES = {
    "pretrain": ("triptych.stages.configs:PretrainConfig", "triptych.stages.pretrain:run"),
    "sft": ("triptych.stages.sft_config:SftConfig", "triptych.stages.sft:run"),
    "pairs": ("triptych.stages.pairs_config:PairsConfig", "triptych.stages.pairs:run"),
    "mpo": ("triptych.stages.configs:MpoConfig", "triptych.stages.mpo:run"),
    "reward": ("triptych.stages.reward_config:RewardConfig", "triptych.stages.reward:run"),
    "ppo": ("triptych.stages.ppo_config:PpoConfig", "triptych.stages.ppo:run"),
    "scorer": ("triptych.stages.scorer_config:ScorerConfig", "triptych.stages.scorer:run"),
    "evaluate": ("triptych.stages.evaluate_config:EvaluateConfig", "triptych.stages.evaluate:run"),
    "world write": ("triptych.world.stage:Config", "triptych.world.stage:run"),
    "world clips": ("triptych.world.clip_stage:Config", "triptych.world.clip_stage:run"),
}
"""Config dataclass and function of each stage, as module:name."""

_PANELS = {"image": "quickstart", "video": "quickstart-video"}
"""Recipe of each panel of the quickstart."""

_WORLD = ("world write", "world clips")
"""Stages that take their folder as first word and count their samples for a progress bar."""

_ON_ALL_RANKS = ("pretrain", "sft", "mpo", "reward", "ppo", "scorer", "run", "quickstart")


@dataclass(frozen=True)
class Verb:
    """A verb: its line in the help, a command to start from, and what is done with its name and the words after it."""

    summary: str
    example: str
    main: Callable[[str, list[str]], int]


def main(words: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    words = list(sys.argv[1:] if words is None else words)
    try:
        with _ranks():
            code = _dispatch(words)
        sys.stdout.flush()
        return code
    except TriptychError as error:
        print(f"triptych{_rank_name()}: {error}", file=sys.stderr)
        return REFUSED
    except KeyboardInterrupt:
        command = shlex.join(["triptych", *words])
        print(f"\nStopped. The same command goes on from here:\n  {command}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # the reader, such as `head`, has seen enough; nothing more may be flushed to it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


@contextlib.contextmanager
def _ranks() -> Iterator[None]:
    """Join the other processes where `torchrun` started several; rank 0 alone writes to standard output."""
    if not _several_ranks():
        yield
        return
    from triptych.engine.distributed import process_group

    with contextlib.ExitStack() as stack:
        if _rank_name():
            stack.enter_context(contextlib.redirect_stdout(stack.enter_context(open(os.devnull, "w"))))
        stack.enter_context(process_group())
        yield


def _several_ranks() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1


def _rank_name() -> str:
    """Return what tells this process from the one that speaks for all, or nothing where it is that one."""
    number = os.environ.get("RANK", "0")
    return "" if number == "0" else f" (rank {number})"


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help"):
        print(_overview(VERBS))
        return 0
    for length in (2, 1):
        name = " ".join(words[:length])
        if name in VERBS:
            return _run_verb(name, words[length:])
    family = {name: verb for name, verb in VERBS.items() if name.startswith(f"{words[0]} ")}
    if family and set(words[1:]) <= {"-h", "--help"}:
        print(_overview(family))
        return 0
    asked = " ".join(words[: 2 if family else 1])
    near = difflib.get_close_matches(asked, family or VERBS, n=1, cutoff=0.5)
    hint = f"Did you mean `triptych {near[0]}`?" if near else f"Known are {', '.join(family or VERBS)}."
    raise TriptychError(f"Unknown verb {asked!r}. {hint}")


def _run_verb(name: str, words: list[str]) -> int:
    if name in _ON_ALL_RANKS or not _several_ranks():
        return VERBS[name].main(name, words)
    from triptych.engine.distributed import on_main

    return on_main(lambda: VERBS[name].main(name, words))


def _overview(verbs: dict[str, Verb]) -> str:
    lines = [
        "usage: triptych VERB ...",
        "",
        "Build, align and measure multimodal LLMs. `triptych quickstart` goes from nothing to a report in minutes.",
        "",
    ]
    for name, verb in verbs.items():
        lines += [f"  {name:<14}{verb.summary}", f"  {'':<14}  {verb.example}"]
    lines += [
        "",
        "`triptych VERB --help` lists the options of a verb and their defaults.",
        "A job that was stopped goes on when the same command is given again.",
    ]
    return "\n".join(lines)


def _stage(name: str, words: list[str]) -> int:
    """Run a stage: its configuration comes from `--config FILE` and `--key value` for any field of the dataclass."""
    from triptych.config import config_text, load_config

    if name in _WORLD and words and not words[0].startswith("-"):
        words = ["--out", *words]
    config_class, run = _STAGES[name]
    if {"-h", "--help"} & set(words):
        _print_stage_help(name, _load(config_class))
        return 0
    parser = argparse.ArgumentParser(prog=f"triptych {name}", add_help=False, allow_abbrev=False)
    parser.add_argument("--config", type=Path)
    known, overrides = parser.parse_known_args(words)
    config = load_config(_load(config_class), known.config, overrides)
    if not _rank_name():
        print(config_text(config), file=sys.stderr)
    if not _rank_name() and (Path(config.out) / "done.json").exists():
        print(f"{config.out} holds a finished run; to run it again, delete that folder.", file=sys.stderr)
    result = _run_world(_load(run), config) if name in _WORLD else _load(run)(config)
    print(json.dumps(result, indent=2, default=str))
    return 0


def _run_world(run: Callable[..., dict[str, Any]], config: Any) -> dict[str, Any]:
    """Write the world under a progress bar; it counts for itself, because it knows nothing of Triptych."""
    from triptych.engine.progress import Progress

    with Progress("world", total=0, unit="sample") as bar:
        return run(config, bar.show)


def _print_stage_help(name: str, config_class: type) -> None:
    from triptych.config import config_parser

    verb, place = VERBS[name], "OUT " if name in _WORLD else ""
    parser = config_parser(
        config_class,
        prog=f"triptych {name}",
        usage=f"triptych {name} {place}[--config FILE] [--key value ...]",
        description=f"{verb.summary}. A YAML file given with --config has the same keys; --key value is stronger.",
        epilog=f"example: {verb.example}",
    )
    parser.print_help()


def _recipe(name: str, words: list[str]) -> int:
    """Run a recipe; `quickstart` is the one of its panel."""
    parser = _parser(name)
    first = "RECIPE" if name == "run" else "[--panel image|video]"
    parser.usage = f"triptych {name} {first} [--out DIR] [--key value ...]"
    parser.description += " Any setting of the recipe can be given as --key value, such as --seed 1."
    parser.add_argument("--out", type=Path, help="run folder (default: runs/ and the name of the recipe)")
    recipe = ""
    if name == "run":
        recipe, words = (words[0], words[1:]) if words and not words[0].startswith("-") else ("", words)
    else:
        parser.add_argument(
            "--panel", choices=tuple(_PANELS), default="image", help="what the model sees (default: %(default)s)"
        )
    known, overrides = parser.parse_known_args(words)
    recipe = recipe or _PANELS.get(getattr(known, "panel", ""), "")
    if not recipe:
        parser.error("name a recipe: a YAML file, or one that comes with Triptych, such as quickstart")
    path = _recipe_path(recipe)
    from triptych.recipe import run_recipe

    run = run_recipe(path, known.out or Path("runs") / path.stem, overrides)
    report = Path(run) / "report.html"
    print(f"Finished: {report if report.exists() else run}")
    return 0


def _recipe_path(name: str, places: Sequence[str] = ("",)) -> Path:
    """Return the file of a recipe, which may be one that comes with Triptych."""
    if (path := Path(name)).is_file():
        return path
    folders = [folder / place for folder in _RECIPE_FOLDERS for place in places]
    shipped = {path.stem: path for folder in folders for path in sorted(folder.glob("*.yaml"))}
    if name not in shipped:
        raise TriptychError(f"{name!r} is neither a file nor one of the recipes {', '.join(shipped)}.")
    return shipped[name]


def _study(name: str, words: list[str]) -> int:
    parser = _parser(name)
    parser.add_argument(
        "recipe", nargs="?", default="quickstart", help="recipe to repeat, or study to run (default: %(default)s)"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs/study"), help="folder of the study (default: %(default)s)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds, from 0 (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side; they share the cores (default: 1)")
    parser.add_argument("--base", type=Path, help="of a study: folder with finished runs seed-0, ... of its recipe")
    known = parser.parse_args(words)
    path = _recipe_path(known.recipe, ("", "studies"))
    options = {"num_seeds": known.seeds, "jobs": known.jobs}
    if path.parent.name == "studies":
        from triptych.lab.variants import load_study, run_variants, variant_lines

        study = load_study(path)
        recipe = str(_recipe_path(study.recipe))
        lines = variant_lines(run_variants(study, recipe, known.out, base=known.base, **options))
    else:
        from triptych.lab.seeds import run_study, study_lines

        lines = study_lines(run_study(str(path), known.out, **options))
    print("\n".join(lines))
    return 0


def _report(name: str, words: list[str]) -> int:
    parser = _parser(name)
    parser.add_argument("run", type=Path, help="run folder, such as runs/quickstart")
    known = parser.parse_args(words)
    from triptych.report.build import build_report

    print(build_report(known.run))
    return 0


def _view(name: str, words: list[str]) -> int:
    from triptych.report.view.page import DEFAULT_LIMIT, DEFAULT_MAX_MB, write_view

    parser = _parser(name)
    parser.add_argument("data", type=Path, help="rows: a .jsonl or .parquet file, or a folder of them")
    parser.add_argument("--root", type=Path, help="data root of the media paths (default: as the stage beside tells)")
    parser.add_argument("--out", type=Path, help="page to write (default: beside the rows)")
    parser.add_argument("--limit", type=int, default=DEFAULT_LIMIT, help="most groups, 0: all (default: %(default)s)")
    parser.add_argument(
        "--max-mb",
        type=float,
        default=DEFAULT_MAX_MB,
        help="most megabytes of pictures in the page; the others are shown from their files (default: %(default)s)",
    )
    print("\n".join(write_view(**vars(parser.parse_args(words))).lines()))
    return 0


def _check(name: str, words: list[str]) -> int:
    parser = _parser(name)
    parser.add_argument("path", type=Path, help="rows: a .jsonl or .parquet file, or a folder of them")
    parser.add_argument("--root", type=Path, help="data root of the media paths (default: the folder of the rows)")
    parser.add_argument("--decode-media", action="store_true", help="decode all media instead of reading their ends")
    parser.add_argument(
        "--quarantine", type=Path, metavar="DIR", help="write good rows and set-aside ones to this folder"
    )
    known = parser.parse_args(words)
    from triptych.data.check import check, quarantine

    options = {"root": known.root, "decode_media": known.decode_media}
    report = quarantine(known.path, known.quarantine, **options) if known.quarantine else check(known.path, **options)
    print("\n".join(report.lines()))
    return 0 if report.ok else FAULTY


def _convert(name: str, words: list[str]) -> int:
    parser = _parser(name)
    parser.add_argument("source", type=Path, help="rows in any known format: a file, or a folder of shards")
    parser.add_argument("target", type=Path, help="file to write: .jsonl, .parquet or .json")
    parser.add_argument("--from", dest="source_format", help="format of the source (default: seen from its first row)")
    parser.add_argument("--to", dest="target_format", default="triptych", help="format to write (default: triptych)")
    parser.add_argument("--root", type=Path, help="data root of the media paths (default: the folder of the source)")
    parser.add_argument("--repeat", action="store_true", help="repeat rows as `repeat_time` of an MMPR meta.json asks")
    parser.add_argument("--unpack", action="store_true", help="write embedded media to files in media/ below the root")
    known = parser.parse_args(words)
    from triptych.data.convert import convert

    report = convert(**vars(known))
    print("\n".join(report.lines()))
    return 0


def _export(name: str, words: list[str]) -> int:
    parser = _parser(name)
    parser.add_argument("source", type=Path, help="rows in any known format: a file, or a folder of shards")
    parser.add_argument("folder", type=Path, help="folder to write, new or empty")
    parser.add_argument("--from", dest="source_format", help="format of the source (default: seen from its first row)")
    parser.add_argument("--root", type=Path, help="data root (default: that of the run, or the folder of the source)")
    parser.add_argument("--shard-mb", type=int, default=500, help="megabytes a shard holds at most (default: 500)")
    known = vars(parser.parse_args(words))
    from triptych.data.export import export

    done = export(known.pop("source"), known.pop("folder"), shard_bytes=known.pop("shard_mb") << 20, **known)
    print("\n".join(done.lines()))
    return 0


def _parser(name: str) -> argparse.ArgumentParser:
    verb = VERBS[name]
    return argparse.ArgumentParser(
        prog=f"triptych {name}",
        description=f"{verb.summary}.",
        epilog=f"example: {verb.example}",
        allow_abbrev=False,
    )


def _load(place: str) -> Any:
    """Return what `module:name` names."""
    module, name = place.split(":")
    return getattr(importlib.import_module(module), name)


VERBS = {
    "quickstart": Verb(
        "Build, align and measure a small model of pictures or of videos from nothing, and write a report",
        "triptych quickstart --out runs/quickstart",
        _recipe,
    ),
    "run": Verb("Run a recipe, stage after stage", "triptych run recipes/quickstart.yaml --out runs/mine", _recipe),
    "study": Verb(
        "Run a recipe over several seeds, or a study of one choice, and sum up",
        "triptych study quickstart --seeds 5 --out runs/study",
        _study,
    ),
    "pretrain": Verb(
        "Pre-train on a mixture of documents (MM1)",
        "triptych pretrain --config pretrain.yaml --out runs/mine/pretrain --max_steps 400",
        _stage,
    ),
    "sft": Verb(
        "Fine-tune on demonstrations",
        "triptych sft --config sft.yaml --model runs/mine/pretrain/model --out runs/mine/sft",
        _stage,
    ),
    "pairs": Verb(
        "Make preference pairs without annotators (correctness, DropoutNTP)",
        "triptych pairs --method correctness --model runs/mine/sft/model --data questions.jsonl --out runs/mine/pairs",
        _stage,
    ),
    "mpo": Verb(
        "Optimise preferences (MPO, DPO, BCO)",
        "triptych mpo --model runs/mine/sft/model --data runs/mine/pairs/pairs.jsonl --out runs/mine/mpo",
        _stage,
    ),
    "reward": Verb(
        "Train a reward model on preference pairs",
        "triptych reward --model runs/mine/sft/model --data runs/mine/pairs/pairs.jsonl --out runs/mine/reward",
        _stage,
    ),
    "ppo": Verb(
        "Train on the rewards of the model's own answers (PPO, RLOO, GRPO)",
        "triptych ppo --model runs/mine/sft/model --reward_model runs/mine/reward/model --data prompts.jsonl "
        "--out runs/mine/ppo",
        _stage,
    ),
    "scorer": Verb(
        "Train a scorer of texts and videos on captions (CLIP), for retrieval and CLIPScore",
        "triptych scorer --init openai/clip-vit-base-patch32 --learning_rate 1e-6 --data captions.jsonl "
        "--out runs/mine/scorer",
        _stage,
    ),
    "evaluate": Verb(
        "Measure a model",
        "triptych evaluate --config evaluate.yaml --model runs/mine/mpo/model --out runs/mine/evaluate_mpo",
        _stage,
    ),
    "report": Verb("Write one HTML file about a run", "triptych report runs/quickstart", _report),
    "view": Verb(
        "Write one HTML file to look through groups and pairs", "triptych view runs/mine/pairs/pairs.jsonl", _view
    ),
    "world write": Verb("Write the data of the embedded world", "triptych world write data/world --seed 0", _stage),
    "world clips": Verb("Write clips of the embedded world", "triptych world clips data/clips --seed 0", _stage),
    "data check": Verb(
        "Find the faults in rows and media before training does",
        "triptych data check questions.jsonl --root images",
        _check,
    ),
    "data convert": Verb(
        "Convert rows from and to other formats (TRL, MMPR, RLAIF-V, LLaVA, LLaMA-Factory, ms-swift, VLM-RLAIF)",
        "triptych data convert preferences.parquet pairs.jsonl --from trl",
        _convert,
    ),
    "data export": Verb(
        "Write rows as a folder for the Hugging Face hub: Parquet shards with the pictures inside, and a card",
        "triptych data export runs/mine/pairs/pairs.jsonl my-preferences",
        _export,
    ),
}


if __name__ == "__main__":
    sys.exit(main())
