"""What packed scores must equal: the unmodified model's own forward of every completion by itself, with gradients."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import torch
from PIL import Image

from triptych.group import Group

RELATIVE, ABSOLUTE = 2e-6, 1e-5
"""Log-probabilities in these tests are sums of about 200 nats."""
END = dict.fromkeys(("llava", "llava_next", "llava_window"), "</s>")
END |= dict.fromkeys(("smolvlm", "idefics3"), "<end_of_utterance>")
END |= dict.fromkeys(("mm1", "mm1_sub_images"), "<|end|>")
END |= {"gemma3": "<end_of_turn>", "mllama": "<|eot|>"}
"""What closes an answer; `<|im_end|>` for the others."""


def plain_logps(tiny: Any, groups: list[Group], most: int | None = None) -> torch.Tensor:
    """Score each completion by the model's forward over what its own processor makes of prompt and completion."""
    logps = []
    if tiny.family.startswith("paligemma"):
        return _plain_paligemma_logps(tiny, groups, most)
    for group in groups:
        prompt = tiny.processor.apply_chat_template(group.prompt, add_generation_prompt=True, tokenize=False)
        media: dict[str, Any] = {}
        if group.images:
            media["images"] = [[Image.open(tiny.root / name).convert("RGB") for name in group.images]]
        if group.videos:  # two frames a second, none left out
            media["videos"] = [_frames(tiny, name) for name in group.videos]
            metadata = [
                {"fps": 2.0, "total_num_frames": n, "frames_indices": list(range(n)), "duration": n / 2}
                for n in map(len, media["videos"])
            ]
            media["videos_kwargs"] = {"video_metadata": metadata, "do_sample_frames": False}
        num_prompt = _processed(tiny, prompt, media)["input_ids"].shape[1]
        for completion in group.completions[:most]:
            text = prompt + completion.text + ("" if completion.truncated else END.get(tiny.family, "<|im_end|>"))
            inputs = _processed(tiny, text, media)
            ids = inputs["input_ids"]
            per_token = tiny.model(**inputs).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])
            logps.append(per_token[:, num_prompt - 1 :].sum())
    return torch.stack(logps)


def _processed(tiny: Any, text: str, media: dict[str, Any]) -> Any:
    return tiny.processor(text=[text], return_tensors="pt", **copy.deepcopy(media))


def _frames(tiny: Any, name: str) -> list[Image.Image]:
    return [Image.open(path).convert("RGB") for path in sorted((tiny.root / name).iterdir())]


def _plain_paligemma_logps(tiny: Any, groups: list[Group], most: int | None) -> torch.Tensor:
    """As its documentation has it: the answer is the `suffix`; without a picture, which it has no words for, alike."""
    logps, tokenizer = [], tiny.processor.tokenizer
    for group in groups:
        text = "".join(part["text"] for part in group.prompt[0]["content"] if part["type"] == "text")
        for completion in group.completions[:most]:
            if group.images:
                pictures = [Image.open(tiny.root / name).convert("RGB") for name in group.images]
                inputs = tiny.processor(
                    text=["<image>" * len(pictures) + text],
                    images=[pictures],
                    suffix=[completion.text],
                    return_tensors="pt",
                )
                assert inputs.pop("labels")[0, -1] == tokenizer.eos_token_id
            else:
                inputs = tokenizer(
                    f"<s>{text}\n", completion.text + "<eos>", return_tensors="pt", return_token_type_ids=True
                )
            ids, suffix = inputs["input_ids"], inputs["token_type_ids"][0] == 1
            assert suffix.any() and not suffix.all()
            if completion.truncated:
                inputs = {key: value[:, :-1] if value.ndim == 2 else value for key, value in inputs.items()}
                ids, suffix = ids[:, :-1], suffix[:-1]
            per_token = tiny.model(**inputs).logits.log_softmax(-1)[:, :-1].gather(-1, ids[:, 1:, None])
            logps.append(per_token[0, suffix[1:]].sum())
    return torch.stack(logps)


def with_gradients(
    model: torch.nn.Module, compute: Callable[[], torch.Tensor]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return log-probabilities and the gradient of their weighted sum for every parameter."""
    model.zero_grad()
    logps = compute()
    (logps * torch.linspace(-1.0, 1.5, len(logps))).sum().backward()
    gradients = {
        name: torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        for name, parameter in model.named_parameters()
    }
    model.zero_grad()
    return logps.detach(), gradients


def assert_same_gradients(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Compare relative to the largest entry of each gradient, or 1: a bias of keys has none but rounding."""
    for part in ("vision|visual", "connector|projector|merger", "embed_tokens", "layers.1.self_attn.k_proj.weight"):
        assert any(found[name].abs().max() > 0.1 for name in found if re.search(part, name)), f"no gradient in {part}"
    for name, gradient in expected.items():
        scale = gradient.abs().max().clamp(min=1.0)
        torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=0, atol=ABSOLUTE, msg=name)
