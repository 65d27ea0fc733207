"""What training will take, before it starts: memory by what it is for, and time at the machine's matrix rate.

Weights, gradients and optimizer states are exact. Activations follow a rule that holds for transformer blocks of all
families here: per token, two numbers for each output of a linear layer (once as it leaves the layer, once after the
activation function, norm or rotation that follows), less what `triptych.models.lean` computes again. Mixtures of
experts have their experts in tensors instead of layers and are underestimated. Nothing is allocated, so that the model
may lie on the meta device.

Letters: B rows, T tokens of a row, N targets, V vocabulary, D hidden size.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn
from torch.optim import Muon
from transformers.modeling_layers import GradientCheckpointingLayer

from triptych.engine.families import backbone_of
from triptych.engine.features import tower_parameters
from triptych.engine.flops import machine_matrix_rate
from triptych.engine.optim import build_optimizers
from triptych.engine.plain import PlainBatch
from triptych.engine.scoring import HEAD_CHUNK_ELEMENTS
from triptych.engine.settings import TrainingConfig
from triptych.engine.trie import PackedBatch
from triptych.engine.workload import Workload
from triptych.models.four_bit import num_bytes
from triptych.models.lean import LeanGatedLayer, LeanNorm, LeanPlainLayer

NUMBERS_PER_OUTPUT = 2
FLOAT32_PER_NORM, FLOAT32_PER_LEAN_NORM = 6, 2
"""Bytes that a norm keeps in float32, per number, beyond the rule when products are computed in bfloat16."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device at the peak of a step, by what they are for."""

    weights: int
    """Parameters and buffers as they are stored; 4-bit ones with their scales."""
    copies: int
    """Weights cast to bfloat16 for the products, which the backward pass needs again."""
    gradients: int
    optimizer: int
    reference: int
    """A second model beside the policy."""
    activations: int
    """What the forward pass of the largest micro-batch keeps for the backward pass."""
    head: int
    """Logits of one chunk of targets, their log-softmax and gradient."""
    judge: int = 0
    """Reward model and critic beside a policy."""
    answers: int = 0
    """What is kept of drawn answers while they are trained on."""
    sampling: int = 0
    """Keys, values and logits of answers as they are drawn; gradients and activations are not there then."""

    @property
    def total(self) -> int:
        """All of it: an upper bound, for not all parts peak together."""
        update = self.copies + self.gradients + self.activations + self.head
        standing = sum(getattr(self, field.name) for field in fields(self)) - update - self.sampling
        return standing + max(update, self.sampling)


@dataclass(frozen=True)
class Estimate:
    """Memory and time of a training run.

    Attributes:
        step_flops: arithmetic of one step on one device.
        matrix_rate: FLOP/s of large matrix products there.
        num_steps: of the run.
        supposed: what it holds under, where that is not known before.
    """

    memory: Memory
    step_flops: float
    matrix_rate: float
    num_steps: int
    supposed: str = ""

    @property
    def seconds_per_step(self) -> float:
        """Time of a step that does nothing but matrix products at full rate: a lower bound."""
        return self.step_flops / self.matrix_rate

    def describe(self) -> str:
        """Return two sentences for the log."""
        parts = {field.name: getattr(self.memory, field.name) for field in fields(Memory)}
        shown = ", ".join(f"{name} {_gib(size)}" for name, size in parts.items() if size)
        return (
            f"Memory: about {_gib(self.memory.total)} ({shown}). Time: at least {_duration(self.seconds_per_step)} per "
            f"step and {_duration(self.seconds_per_step * self.num_steps)} in all, at the measured "
            f"{self.matrix_rate / 1e9:,.0f} GFLOP/s of matrix products{self.supposed}."
        )


def estimate(
    model: nn.Module,
    config: TrainingConfig,
    batches: Sequence[PackedBatch | PlainBatch],
    *,
    num_steps: int,
    live_reference: bool = False,
    num_ranks: int = 1,
    matrix_rate: float | None = None,
) -> Estimate:
    """Estimate what training takes of one device.

    Args:
        model: as it is trained: frozen parts frozen, adapters on.
        config: precision, optimiser, `gradient_accumulation_steps` and `gradient_checkpointing` count here.
        batches: a sample of micro-batches, the largest among them.
        num_steps: of the run.
        live_reference: reference log-probabilities are computed in every step: with adapters by the same weights,
            otherwise by a copy of the model.
        num_ranks: devices that share weights, gradients and optimizer states (FSDP).
        matrix_rate: FLOP/s of matrix products; None measures them, in 0.2 s.
    """
    device = next(model.parameters()).device.type
    if matrix_rate is None:
        matrix_rate = machine_matrix_rate(getattr(torch, config.compute_dtype), device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    stored = stored_bytes([*model.parameters(), *model.buffers()], num_ranks)
    has_copy = live_reference and not any("lora_" in name for name, _ in model.named_parameters())
    memory = Memory(
        weights=stored,
        copies=copied_bytes(model, config) // num_ranks,
        gradients=sum(parameter.nbytes for parameter in trained) // num_ranks,
        optimizer=optimizer_bytes(model, config) // num_ranks,
        reference=stored if has_copy else 0,
        activations=max(activation_bytes(model, config, batch) for batch in batches),
        head=max(head_bytes(model, config, batch) for batch in batches),
    )
    flops = statistics.fmean(_flops(model, config, batch, live_reference) for batch in batches)
    micro_batches = -(-config.gradient_accumulation_steps // num_ranks)
    return Estimate(memory, flops * micro_batches, matrix_rate, num_steps)


def stored_bytes(tensors: Iterable[Tensor], num_ranks: int = 1) -> int:
    """Return the bytes of tensors on one of the ranks that share them; quantised ones are whole on each."""
    return sum(num_bytes(item) // (num_ranks if item.is_floating_point() else 1) for item in tensors)


def optimizer_bytes(model: nn.Module, config: TrainingConfig) -> int:
    """Return the bytes of the optimizers' states: AdamW has two numbers per weight and a counter, Muon one number."""
    total = 0
    for optimizer in build_optimizers(model, config):
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            total += parameter.nbytes if isinstance(optimizer, Muon) else 2 * parameter.nbytes + 4
    return total


def activation_bytes(model: nn.Module, config: TrainingConfig, batch: PackedBatch | PlainBatch) -> int:
    """Return the bytes that the forward pass of a batch keeps for the backward pass, without the head's."""
    num_tokens, mask = batch.num_tokens, 0
    if isinstance(batch, PackedBatch):
        num_tokens = batch.input_ids.numel()
        if batch.blocks is None:
            mask = 4 * num_tokens * batch.input_ids.shape[1]  # (B, 1, T, T) in float32, once for all layers
    total = mask + 3 * 4 * num_tokens * model.get_input_embeddings().embedding_dim  # and the norm before the head
    total += _part_bytes(model.get_decoder(), num_tokens, config)
    for name, part in _trained_tower_parts(model):
        total += _part_bytes(part, _tower_tokens(model, name, batch), config)
    return total


def head_bytes(model: nn.Module, config: TrainingConfig, batch: PackedBatch | PlainBatch) -> int:
    """Return the bytes of one chunk of logits (N, V) with log-softmax and gradient, both in float32."""
    logits = len(batch.predecessors) * model.get_output_embeddings().weight.shape[0]
    return min(logits, HEAD_CHUNK_ELEMENTS) * (10 if config.bf16 else 8)


def _part_bytes(part: nn.Module, num_tokens: int, config: TrainingConfig) -> int:
    """Apply the rule to the blocks of a part; recomputed ones keep their input alone, but for the one at work."""
    blocks = _blocks(part)
    if not config.gradient_checkpointing or not blocks:
        return num_tokens * _bytes_per_token(part, config)
    inputs = sum(_block_width(block) for block in blocks)
    rest = _bytes_per_token(part, config) - sum(_bytes_per_token(block, config) for block in blocks)
    return num_tokens * (4 * inputs + max(_bytes_per_token(block, config) for block in blocks) + rest)


def _bytes_per_token(part: nn.Module, config: TrainingConfig) -> int:
    saved = sum(_numbers_not_kept(module) for module in part.modules())
    outputs = sum(layer.out_features for name, layer in part.named_modules() if _counts(name, layer))
    numbers = NUMBERS_PER_OUTPUT * outputs - saved
    if not config.bf16:
        return 4 * numbers
    norms = [norm for norm in part.modules() if _is_norm(norm)]
    return 2 * numbers + sum(
        norm.weight.numel() * (FLOAT32_PER_LEAN_NORM if isinstance(norm, LeanNorm) else FLOAT32_PER_NORM)
        for norm in norms
    )


def _numbers_not_kept(module: nn.Module) -> int:
    """Return what a lean feed-forward layer computes again: its inner width once, or twice where it is gated.

    An adapted last layer keeps its input, which is as wide.
    """
    if isinstance(module, LeanGatedLayer):
        width, last = 2 * module.gate_proj.out_features, module.down_proj
    elif isinstance(module, LeanPlainLayer):
        width, last = module.fc1.out_features, module.fc2
    else:
        return 0
    return width if isinstance(last, nn.Linear) else width - last.in_features


def _counts(name: str, module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) and "lora_B" not in name  # its output is added to that of the layer below it


def _is_norm(module: nn.Module) -> bool:
    return "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None


def _block_width(block: nn.Module) -> int:
    """Return the size of a block's input, which is that of its first norm."""
    return next((norm.weight.numel() for norm in block.modules() if _is_norm(norm)), 0)


def _trained_tower_parts(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Iterate over the parts in front of the decoder that keep activations.

    A frozen part keeps them only where a part before it is trained.
    """
    own = {name.split(".")[0] for name in tower_parameters(model)}
    trained = {name.split(".")[0] for name, parameter in tower_parameters(model).items() if parameter.requires_grad}
    reached = False
    for name, part in backbone_of(model).named_children():
        reached = reached or name in trained
        if reached and name in own:
            yield name, part


def _tower_tokens(model: nn.Module, name: str, batch: PackedBatch | PlainBatch) -> int:
    """Return how many tokens pass through a part: patches where it makes them, image tokens in a connector."""
    part = backbone_of(model).get_submodule(name)
    if any(isinstance(module, nn.Conv2d | nn.Conv3d) for module in part.modules()):
        return Workload(model).num_patches(batch)
    return sum(item.num_tokens for item in batch.media)


def copied_bytes(model: nn.Module, config: TrainingConfig) -> int:
    """Return the bytes of matrices cast to bfloat16 and kept; 4-bit ones are written out for one product at a time."""
    if not config.bf16:
        return 0
    parts = [model.get_decoder(), model.get_output_embeddings(), *(part for _, part in _trained_tower_parts(model))]
    blocks = [_cast_bytes(block) for part in parts for block in _blocks(part)]
    total = sum(_cast_bytes(part) for part in parts)
    return total - sum(blocks) + max(blocks) if config.gradient_checkpointing and blocks else total


def _cast_bytes(module: nn.Module) -> int:
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    return sum(2 * layer.weight.numel() for layer in layers if layer.weight.dtype == torch.float32)


def _blocks(part: nn.Module) -> list[nn.Module]:
    """Return the blocks that recomputation works on."""
    return [module for module in part.modules() if isinstance(module, GradientCheckpointingLayer)]


def _flops(model: nn.Module, config: TrainingConfig, batch: PackedBatch | PlainBatch, live_reference: bool) -> int:
    """Return the arithmetic done for a micro-batch; recomputation counts here, unlike in MFU."""
    workload = Workload(model)
    forwards = live_reference + config.gradient_checkpointing
    return workload.training_flops(batch) + forwards * workload.forward_flops(batch)


def _gib(size: float) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 / 10 else f"{size / 2**20:.3g} MiB"


def _duration(seconds: float) -> str:
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
