"""What PPO says before its first step, against what tensors really take."""

from types import SimpleNamespace

import pytest
import torch

from tests.stages import toy_ppo
from tests.support.peak import PeakBytes
from tests.support.ranks import run_ranks
from triptych.engine.actor_critic_loading import build_actor_critic
from triptych.engine.estimate import optimizer_bytes
from triptych.engine.preflight import check_prompts
from triptych.engine.rollouts import Drawn
from triptych.engine.workload import Workload
from triptych.generation.local import LocalGenerator
from triptych.generation.protocol import Request, SamplingParams
from triptych.stages.ppo import read_prompts
from triptych.stages.ppo_config import PpoConfig
from triptych.stages.ppo_estimate import estimate_ppo, sampling_bytes

NEW_TOKENS = 40
ARRANGEMENTS = [
    pytest.param({"lora_r": 4, "critic_lora_r": 16}, id="adapters"),
    pytest.param({}, id="whole weights, a head"),
    pytest.param({"algorithm": "rloo", "gradient_checkpointing": True}, id="rloo, recomputed"),
]


class Prepared(SimpleNamespace):
    """A configuration, its roles, prompts and their tokens."""

    @property
    def estimate(self):
        return estimate_ppo(self.roles, self.config, [self.prompts], self.lengths, matrix_rate=1e9)


@pytest.fixture(scope="module")
def prepare(tiny_folder, tmp_path_factory):
    """Return a function that does what the stage does before its first step."""
    root = toy_ppo.write_prompts(tmp_path_factory.mktemp("prompts"))
    judge = toy_ppo.write_judge(tiny_folder("llava"), tmp_path_factory.mktemp("judge") / "model")

    def make(**settings):
        config = PpoConfig(
            model=str(tiny_folder("llava")), reward_model=str(judge), data=str(root / "pictures.jsonl"), out="unused",
            prompts_per_step=4, per_device_train_batch_size=2, gradient_accumulation_steps=2, row_tokens=512,
            **{"num_samples": 3, "max_new_tokens": NEW_TOKENS} | settings,
        )  # fmt: skip
        roles, _ = build_actor_critic(
            config, config.model, str(judge), critic=config.algorithm == "ppo", critic_lora_r=config.critic_lora_r
        )
        prompts = read_prompts(config.data, "")
        rows = {prompt.name: (prompt.group, prompt.root) for prompt in prompts}
        lengths = check_prompts(roles.encoder, rows, config.row_tokens, NEW_TOKENS)
        return Prepared(config=config, roles=roles, prompts=prompts, lengths=lengths)

    return make


def random_answers(prepared, num_prompts):
    """Answers to the first prompts, of as many tokens as they may have; no token stands for a picture or ends them."""
    torch.manual_seed(0)
    shape, drawn = (prepared.config.num_samples, NEW_TOKENS), []
    for prompt in prepared.prompts[:num_prompts]:
        texts, ended = [""] * shape[0], [False] * shape[0]
        answers = torch.randint(20, 200, shape).tolist()
        drawn.append(Drawn(prompt.name, prompt.group, prompt.root, answers, texts, ended))
    return drawn


@pytest.mark.parametrize("settings", ARRANGEMENTS)
def test_weights_gradients_and_optimizer_are_exact(prepare, settings):
    prepared = prepare(**settings)
    roles, memory = prepared.roles, prepared.estimate.memory
    beside = [roles.judge.model, roles.critic]
    models = {"weights": [roles.policy], "reference": [roles.reference.model], "judge": beside}
    known = set()
    for name, parts in models.items():
        tensors = {item for part in parts if part is not None for item in (*part.parameters(), *part.buffers())}
        assert getattr(memory, name) == sum(item.nbytes for item in tensors - known), name
        known |= tensors
    assert memory.gradients == sum(item.nbytes for item in roles.parameters() if item.requires_grad)
    assert memory.optimizer == optimizer_bytes(roles, prepared.config)
    assert (memory.reference == 0) == ("lora_r" in settings)


@pytest.mark.parametrize("settings", ARRANGEMENTS)
def test_an_update_peaks_within_a_fifth_of_what_is_said(prepare, settings):
    prepared = prepare(**settings)
    roles, memory = prepared.roles.train(), prepared.estimate.memory
    drawn = random_answers(prepared, 2)
    read = [roles.policy_logps, roles.values] if "critic_lora_r" in settings else [roles.policy_logps]
    packers = [roles.packer, roles.critic_packer]
    peaks = []
    for forward, packer in zip(read, packers, strict=False):
        batch = packer.pack(drawn).batch
        with PeakBytes() as seen:
            forward(batch).sum().backward()
        peaks.append(seen.peak)
        roles.zero_grad()
    # logits go when their log-softmax is there
    assert memory.activations + memory.head / 2 + memory.gradients == pytest.approx(max(peaks), rel=0.2)


@pytest.mark.parametrize(
    ("batch_sequences", "num_samples", "new_tokens"), [(6, 3, NEW_TOKENS), (256, 3, NEW_TOKENS), (256, 32, 2)]
)
def test_a_draw_peaks_within_a_sixth_of_what_is_said(prepare, batch_sequences, num_samples, new_tokens):
    """Of many short answers the logits are a large part."""
    sizes = {"num_samples": num_samples, "max_new_tokens": new_tokens}
    prepared = prepare(algorithm="rloo", batch_sequences=batch_sequences, **sizes)
    roles, prompts, memory = prepared.roles, prepared.prompts, prepared.estimate.memory
    roles.encoder.stop_ids = set()
    sampler = LocalGenerator(roles.policy, roles.encoder, batch_sequences=batch_sequences)
    requests = [Request(prompt.group, num_samples) for prompt in prompts]
    with PeakBytes() as seen:
        drawn = list(sampler.generate(requests, SamplingParams(max_new_tokens=new_tokens), root=prompts[0].root))
    assert all(sample.num_tokens == new_tokens for samples in drawn for sample in samples)
    assert memory.sampling == pytest.approx(seen.peak, rel=1 / 6)


def test_the_larger_of_policy_and_critic_decides_for_their_graphs_are_held_one_at_a_time(prepare):
    small, large = (prepare(lora_r=4, critic_lora_r=rank).estimate.memory.activations for rank in (2, 4))
    assert prepare(lora_r=2, critic_lora_r=4).estimate.memory.activations == large == small


def test_sampling_and_updates_do_not_peak_together(prepare):
    memory = prepare().estimate.memory
    update = memory.copies + memory.gradients + memory.activations + memory.head
    standing = memory.weights + memory.reference + memory.judge + memory.optimizer + memory.answers
    assert memory.total == standing + max(update, memory.sampling)


def test_states_that_a_head_reads_are_kept(prepare):
    with_head, without = (prepare(**settings).estimate.memory for settings in ({}, {"algorithm": "rloo"}))
    assert with_head.answers - without.answers == 4 * 64 * 4 * 3 * NEW_TOKENS  # width, prompts, samples, tokens


def test_time_is_the_arithmetic_of_drawing_reading_and_all_epochs(prepare):
    prepared = prepare(lora_r=4, critic_lora_r=2)
    roles, found = prepared.roles, prepared.estimate
    packed = roles.packer.pack(random_answers(prepared, 2)).batch
    policy, critic, judge = (Workload(model) for model in (roles.policy, roles.critic, roles.judge.model))
    part = 3 * policy.forward_flops(packed) + 2 * policy.training_flops(packed)  # drawn, read, read as the reference
    part += judge.forward_flops(packed) + critic.forward_flops(packed) + 2 * critic.training_flops(packed)
    assert found.step_flops == pytest.approx(2 * part, rel=1e-3), "of 4 prompts, 2 at a time"
    assert found.seconds_per_step == found.step_flops / 1e9
    assert f"with answers of {NEW_TOKENS} tokens" in found.describe()


def test_ranks_share_what_is_stored_but_each_holds_the_policy_while_it_draws(prepare):
    one = prepare(lora_r=4, critic_lora_r=2)
    memory, whole = one.estimate.memory, sum(p.nbytes for p in one.roles.policy.parameters())

    def work():
        prepared = prepare(lora_r=4, critic_lora_r=2)
        longest = max(prepared.lengths.values())
        return prepared.estimate.memory, sampling_bytes(prepared.roles.policy, prepared.config, longest)

    for found, drawing in run_ranks(work):
        assert found.weights == pytest.approx(memory.weights / 2, rel=1e-3)
        assert found.judge == pytest.approx(memory.judge / 2, rel=1e-3)
        assert found.optimizer == pytest.approx(memory.optimizer / 2, rel=1e-3)
        assert (found.activations, found.head) == (memory.activations, memory.head)
        assert found.sampling == pytest.approx(drawing + whole, rel=1e-3)


def test_the_stage_tells_it_before_the_first_step(tiny_folder, tmp_path, capfd):
    root = toy_ppo.write_prompts(tmp_path)
    toy_ppo.train(tmp_path / "run", tiny_folder("mm1"), root, max_steps=1)
    told = capfd.readouterr().err
    assert told.index("Memory: about") < told.index("ppo: 1 of 1") and "sampling" in told


def test_bf16_casts_weights_of_one_role_at_a_time(prepare):
    prepared = prepare(lora_r=4, critic_lora_r=2, bf16=True)
    linear = [layer for layer in prepared.roles.policy.get_decoder().modules() if isinstance(layer, torch.nn.Linear)]
    head = prepared.roles.policy.get_output_embeddings()
    assert prepared.estimate.memory.copies == 2 * sum(layer.weight.numel() for layer in [*linear, head])
