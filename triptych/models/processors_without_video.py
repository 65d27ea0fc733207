"""Processors of video-capable families where torchvision is missing: pictures work, videos are refused by name.

transformers 5 loads a processor only whole, and its video processors need torchvision, for which there is not always a
build. Here the video processor's place is taken by a stub that keeps its configuration, so that a saved processor
still holds it.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from transformers import PROCESSOR_MAPPING, AutoConfig, AutoImageProcessor, AutoProcessor, AutoTokenizer, ProcessorMixin
from transformers.models.auto.video_processing_auto import get_video_processor_config
from transformers.utils import PushToHubMixin, is_torchvision_available

from triptych.errors import TriptychError


class VideoProcessorStub(PushToHubMixin):
    """Stands where a video processor would: holds its configuration, and refuses videos.

    Args:
        config: the content of the video processor's file.
    """

    model_input_names: tuple[str, ...] = ()
    _auto_class = None
    num_frames = fps = None  # SmolVLM asks for them whenever it renders a chat

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def to_dict(self) -> dict[str, Any]:
        """Return the configuration, as the processor writes it into its own file."""
        return self.config

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse."""
        raise TriptychError("Videos of this model family need torchvision: `pip install torchvision`.")


def load_image_text_processor(path: str | Path) -> Any:
    """Load the processor of a model; without torchvision one that takes pictures and refuses videos.

    Args:
        path: a folder or a name on the hub.

    Returns:
        an instance of the family's own processor class.
    """
    if is_torchvision_available():
        return AutoProcessor.from_pretrained(path)
    processor_class = PROCESSOR_MAPPING.get(type(AutoConfig.from_pretrained(path)), None)
    if processor_class is None or "video_processor" not in processor_class.get_attributes():
        return AutoProcessor.from_pretrained(path)
    _allow_smolvlm_without_num2words()
    parts = {
        "image_processor": lambda: AutoImageProcessor.from_pretrained(path),
        "tokenizer": lambda: AutoTokenizer.from_pretrained(path),
        "video_processor": lambda: VideoProcessorStub(get_video_processor_config(path)),
    }
    settings, _ = processor_class.get_processor_dict(path)
    arguments = [parts[name]() for name in processor_class.get_attributes()]
    return _accepting_stub(processor_class).from_args_and_dict(arguments, settings)


@functools.cache
def _accepting_stub(processor_class: type[ProcessorMixin]) -> type[ProcessorMixin]:
    """Derive a class of the same name whose check of the parts lets the stub pass."""

    def check_argument_for_proper_class(self: ProcessorMixin, name: str, argument: Any) -> type:
        if isinstance(argument, VideoProcessorStub):
            return VideoProcessorStub
        return processor_class.check_argument_for_proper_class(self, name, argument)

    body = {"__module__": __name__, "check_argument_for_proper_class": check_argument_for_proper_class}
    return type(processor_class.__name__, (processor_class,), body)


def _allow_smolvlm_without_num2words() -> None:
    """Let SmolVLM's processor be built without `num2words`, which it demands and uses for videos alone."""
    from transformers.models.smolvlm import processing_smolvlm

    if processing_smolvlm.num2words is None:
        processing_smolvlm.num2words = VideoProcessorStub({})
