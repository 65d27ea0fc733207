"""Load any Hugging Face image-text-to-text model and its processor, or build an MM1 from nothing.

Weights are read from safetensors only, code of a checkpoint runs only on request, and a folder that cannot be used is
refused with a sentence that says why.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPImageProcessorPil,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.image_processing_utils import BaseImageProcessor
from transformers.utils import logging as transformers_logging

from triptych.errors import TriptychError
from triptych.models.four_bit import keep_one_numerics, quantization_config
from triptych.models.lean import keep_less
from triptych.models.mm1 import MM1Config, MM1ForConditionalGeneration, MM1Processor
from triptych.models.mm1.positions import init_positions
from triptych.models.onednn import use_fast_products
from triptych.models.processors_without_video import load_image_text_processor
from triptych.models.reward import RewardModelConfig

DTYPES = ("float32", "bfloat16", "float16", "auto")
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# Keys that configurations of transformers read without declaring them as fields.
_ACCEPTED_BY_CONFIGS = {"model_type", "head_dim", "rope_theta", "rope_scaling"}
_ADAPTER_WEIGHTS = "adapter_model.safetensors"
_ADAPTER_KEY = re.compile(r"\.lora_[AB]\.|\.base_layer\.")
_T = TypeVar("_T")


def load_model(
    path: str | Path,
    *,
    dtype: str = "float32",
    attn_implementation: str | None = None,
    trust_remote_code: bool = False,
    load_in_4bit: bool = False,
    compute_dtype: str = "float32",
    device: str | None = None,
    auto_class: Any = AutoModelForImageTextToText,
) -> PreTrainedModel:
    """Load an image-text-to-text model from a folder or from the Hugging Face hub.

    Args:
        path: a folder written by `save_pretrained`, or a hub name such as `llava-hf/llava-1.5-7b-hf`.
        dtype: `float32`, `bfloat16`, `float16`, or `auto` for that of the checkpoint.
        attn_implementation: a name transformers knows or that was registered with it; by default `sdpa` for the parts
            of the model that have it (Gemma 2, which caps its scores, has not) and `eager` for the others.
        trust_remote_code: run Python code that comes with the checkpoint.
        load_in_4bit: quantise the linear layers of the language model to NF4; see `triptych.models.four_bit`.
        compute_dtype: `float32` or `bfloat16`, of the products with 4-bit weights.
        device: where to, by default the GPU where there is one; `meta` gives the model without its weights.
        auto_class: of transformers, which knows the model's class; another one for another head.
    Returns:
        the model in evaluation mode.
    Raises:
        TriptychError: the folder is missing or incomplete, holds pickled weights, holds an adapter that is not merged
            into its weights, lacks weights of the model, or is of a kind that transformers does not load as
            image-text-to-text; or 4 bits are asked for without bitsandbytes.
    """
    if dtype not in DTYPES:
        raise TriptychError(f"dtype is {dtype!r}; choose one of {', '.join(DTYPES)}.")
    folder = _local_folder(path)
    if folder is not None:
        _check_model_folder(folder)
        if auto_class is AutoModelForImageTextToText:
            _refuse_reward_model(folder)
    name = str(folder or path)
    if device == "meta":
        return _load(
            lambda: _without_weights(name, auto_class, dtype, attn_implementation, trust_remote_code),
            what="model",
            path=path,
        )
    model, info = _load(
        lambda: auto_class.from_pretrained(
            name,
            dtype=dtype,
            attn_implementation=attn_implementation,
            trust_remote_code=trust_remote_code,
            use_safetensors=True,
            output_loading_info=True,
            **(_four_bit(name, auto_class, compute_dtype, trust_remote_code) if load_in_4bit else {}),
        ),
        what="model",
        path=path,
    )
    # Of a hub name, transformers loads the base model along with its adapter.
    if adapters := getattr(model, "peft_config", None):
        raise TriptychError(_unmerged_sentence(name, next(iter(adapters.values())).base_model_name_or_path))
    if missing := sorted(info["missing_keys"]):
        raise TriptychError(
            f"{path} lacks {len(missing)} weights of its model, for example {', '.join(missing[:3])}: they would start "
            "at random. Copy or save the checkpoint again."
        )
    keep_one_numerics(model)
    use_fast_products(model)
    keep_less(model)
    return model if load_in_4bit else model.to(device or _device())


def _without_weights(
    name: str, auto_class: Any, dtype: str, attn_implementation: Any, trust_remote_code: bool
) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code)
    with torch.device("meta"):
        return auto_class.from_config(
            config, dtype=dtype, attn_implementation=attn_implementation, trust_remote_code=trust_remote_code
        ).eval()


def load_processor(path: str | Path, *, trust_remote_code: bool = False) -> ProcessorMixin:
    """Load the processor of a model: tokenizer, chat template and image processor.

    Without torchvision the Pillow image processors load, and videos are prepared with Pillow too.

    Raises:
        TriptychError: the folder is missing, or holds no processor for images.
    """
    folder = _local_folder(path)
    if folder is not None and not any(
        (folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json")
    ):
        raise TriptychError(
            f"{folder} holds no processor (processor_config.json or preprocessor_config.json). Write one there with "
            f"load_processor('<the model it was trained from>').save_pretrained('{folder}')."
        )
    name = str(folder or path)
    processor = _load(
        lambda: (
            AutoProcessor.from_pretrained(name, trust_remote_code=True)
            if trust_remote_code
            else load_image_text_processor(name)
        ),
        what="processor",
        path=path,
    )
    if not isinstance(processor, ProcessorMixin) or getattr(processor, "image_processor", None) is None:
        raise TriptychError(
            f"{path} has a {type(processor).__name__} but no processor for text and images. "
            "Save the processor of the model beside it with save_pretrained."
        )
    return processor


def build_mm1(
    config: Mapping[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    *,
    seed: int = 0,
    image_processor: BaseImageProcessor | None = None,
    sub_images_per_side: int = 1,
    position_init: str = "random",
) -> tuple[MM1ForConditionalGeneration, MM1Processor]:
    """Build an MM1 with random weights, which are a function of the configuration and the seed alone.

    Args:
        config: fields of `MM1Config`; `vision_config` and `text_config` are mappings with a `model_type`. The sizes
            that follow from the tokenizer are filled in: token ids, and `vocab_size` where it is not given.
        tokenizer: one with an `<image>` token, and a `<video>` token for a model that takes videos, such as
            `train_tokenizer` returns.
        seed: for the weights; the state of torch's own generator is left as it was.
        image_processor: by default CLIP's, resizing straight to the square the encoder takes.
        sub_images_per_side: see `MM1Processor`.
        position_init: "sincos" starts the position embeddings of the encoder from `sincos_positions`; "random" leaves
            them as they are drawn.
    Raises:
        TriptychError: an unknown key, a vocabulary smaller than the tokenizer's, or parts that do not fit together.
    """
    refuse_unknown_keys(config, MM1Config, "the model configuration")
    parts: dict[str, dict[str, Any]] = {}
    for name in ("vision_config", "text_config"):
        parts[name] = part = dict(config.get(name) or {})
        if part.get("model_type") not in CONFIG_MAPPING:
            raise TriptychError(
                f"{name} needs a `model_type` that transformers knows, such as "
                f"{'clip_vision_model' if name == 'vision_config' else 'llama'}, not {part.get('model_type')!r}."
            )
        refuse_unknown_keys(part, CONFIG_MAPPING[part["model_type"]], name)
    text = parts["text_config"]
    if text.setdefault("vocab_size", len(tokenizer)) < len(tokenizer):
        raise TriptychError(f"vocab_size is {text['vocab_size']}, but the tokenizer has {len(tokenizer)} tokens.")
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        text[name] = getattr(tokenizer, name)

    mm1_config = MM1Config(**{**config, **parts})
    side = mm1_config.image_size
    if image_processor is None:
        image_processor = CLIPImageProcessorPil(size={"height": side, "width": side}, do_center_crop=False)
    processor = MM1Processor(
        image_processor, tokenizer, mm1_config.num_image_tokens, sub_images_per_side=sub_images_per_side
    )
    mm1_config.image_token_id, mm1_config.video_token_id = processor.image_token_id, processor.video_token_id
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        model = MM1ForConditionalGeneration(mm1_config).to(_device())
    if position_init == "sincos":
        init_positions(model.model.vision_tower, mm1_config.vision_grid_size, mm1_config.vision_config.hidden_size)
    use_fast_products(model)
    keep_less(model)
    return model, processor


def _four_bit(name: str, auto_class: Any, compute_dtype: str, trust_remote_code: bool) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that have each weight quantised on the device as it is read."""
    config = quantization_config(
        name, getattr(torch, compute_dtype), trust_remote_code=trust_remote_code, auto_class=auto_class
    )
    return {"quantization_config": config, "device_map": {"": _device()}}


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _local_folder(path: str | Path) -> Path | None:
    """Return the folder, or None for a hub name."""
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.is_file():
        raise TriptychError(f"{path} is a file. Give the folder that holds config.json and the weights.")
    if not _HUB_NAME.fullmatch(str(path)):
        raise TriptychError(f"There is no folder {path}.")
    return None


def _check_model_folder(folder: Path) -> None:
    weights = [item for item in folder.glob("*.safetensors") if item.name != _ADAPTER_WEIGHTS]
    adapted = (folder / "adapter_config.json").is_file()
    if not (folder / "config.json").is_file():
        if adapted:
            raise TriptychError(_unmerged_sentence(folder, _base_of_adapter(folder)))
        raise TriptychError(f"{folder} holds no config.json. Give a folder written by save_pretrained.")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if missing := sorted(shard for shard in shards if not (folder / shard).is_file()):
            raise TriptychError(f"{folder} lacks {len(missing)} of {len(shards)} weight files: {', '.join(missing)}.")
    elif not weights:
        base = _base_of_adapter(folder) if adapted else None
        raise TriptychError(_unmerged_sentence(folder, base) if adapted else _no_weights_sentence(folder))
    if adapted:
        raise TriptychError(
            f"{folder} holds an adapter beside its weights, which would be added to them. If they hold its update "
            f"already, delete adapter_config.json and {_ADAPTER_WEIGHTS}. If not, move those two to another folder and "
            f"merge them: {_merge_command(str(folder), '<that folder>')}"
        )
    _refuse_adapters_among(weights)


def _refuse_reward_model(folder: Path) -> None:
    settings: Any = {}
    with contextlib.suppress(OSError, ValueError):  # transformers will say what is wrong
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if isinstance(settings, dict) and settings.get("model_type") == RewardModelConfig.model_type:
        raise TriptychError(f"{folder} is a reward model, which scores texts. Give the model it was trained from.")


def _no_weights_sentence(folder: Path) -> str:
    pickles = sorted(p.name for suffix in ("bin", "pt", "pth", "ckpt") for p in folder.glob(f"*.{suffix}"))
    if not pickles:
        return f"{folder} holds a config.json but no weights (*.safetensors)."
    return (
        f"{folder} holds pickled weights only ({', '.join(pickles[:3])}). A pickle can run code when it is "
        "read, so only safetensors are loaded. If you trust where they come from, load them with transformers "
        "and save_pretrained, which writes safetensors."
    )


def _refuse_adapters_among(weights: Sequence[Path]) -> None:
    """Refuse a state dict that was saved with its adapters on: none of its names would fit the model."""
    for file in weights:
        with contextlib.suppress(SafetensorError), safe_open(file, framework="pt") as tensors:
            if unmerged := next((key for key in tensors.keys() if _ADAPTER_KEY.search(key)), ""):  # noqa: SIM118
                raise TriptychError(
                    f"{file} holds un-merged LoRA adapters ({unmerged}). Load it with the code that wrote it, call "
                    "merge_and_unload() of peft, and save_pretrained again."
                )


def _unmerged_sentence(name: Path | str, base: str | None) -> str:
    return (
        f"{name} holds an adapter, not a model. Merge it into its base model first: "
        f"{_merge_command(base or '<base model>', str(name))}"
    )


def _base_of_adapter(folder: Path) -> str | None:
    return json.loads((folder / "adapter_config.json").read_text(encoding="utf-8")).get("base_model_name_or_path")


def _merge_command(base: str, adapter: str) -> str:
    return (
        f"peft.PeftModel.from_pretrained(load_model('{base}'), '{adapter}').merge_and_unload()"
        ".save_pretrained('<new folder>'), with load_model from triptych.models.loading."
    )


def _load(load: Callable[[], _T], *, what: str, path: str | Path) -> _T:
    """Call `load`, turning what goes wrong into one sentence with the name of the folder."""
    try:
        with without_progress_bars():
            return load()
    except TriptychError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise TriptychError(f"Cannot load the {what} from {path}: {type(error).__name__}: {reason}") from error


def save_model(model: PreTrainedModel, processor: ProcessorMixin, folder: Path) -> None:
    """Write a folder that `load_model` and `load_processor` read."""
    with without_progress_bars():
        model.save_pretrained(folder)
        processor.save_pretrained(folder)


@contextlib.contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep the bars of transformers off the screen: a stage shows its own, and files are read in no time."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def refuse_unknown_keys(given: Mapping[str, Any], config_class: type, where: str) -> None:
    """Raise `TriptychError` for a key that a configuration of transformers does not have; `where` it was given."""
    known = {field.name for field in fields(config_class)} | set(config_class.attribute_map) | _ACCEPTED_BY_CONFIGS
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(key, known) or sorted(known)
            raise TriptychError(f"Unknown key {key!r} in {where}. {config_class.__name__} has {', '.join(near)}.")
