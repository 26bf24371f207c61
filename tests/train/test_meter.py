"""The meter against a clock that is moved by hand, and its FLOP count against torch's own counter."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn
from transformers import LlamaConfig

from distmed.train.meter import FlopCount, Meter, host_peak_bytes

PEAK = 1e6


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Toy(nn.Module):
    """Ten weights in a linear layer, an embedding and an output layer that do not count."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(7, 2)
        self.body = nn.Linear(2, 5, bias=False)
        self.output = nn.Linear(5, 7)
        self.config = LlamaConfig(num_attention_heads=1, hidden_size=2, num_hidden_layers=3)

    @property
    def network(self) -> Toy:
        return self

    def get_output_embeddings(self) -> nn.Module:
        return self.output


def recipe(log_every: int = 10) -> Any:
    return SimpleNamespace(data=SimpleNamespace(seq_len=8), train=SimpleNamespace(log_every=log_every))


class Run:
    """A meter and the clock it reads."""

    def __init__(self, log_every: int = 10, world_size: int = 2, peak_flops: float | None = PEAK) -> None:
        self.clock = Clock()
        self.meter = Meter(Toy(), recipe(log_every), world_size=world_size, peak_flops=peak_flops, clock=self.clock)  # type: ignore[arg-type]

    def step(self, wait: float = 0.5, work: float = 1.5, tokens: int = 1000) -> None:
        self.clock.now += wait
        self.meter.data_arrived()
        self.clock.now += work
        self.meter.step_done(tokens)


def test_rates_of_equal_steps():
    run = Run()
    for _ in range(3):
        run.step()
    rates = run.meter.rates()
    assert rates["perf/tokens_per_s"] == pytest.approx(500)
    assert rates["perf/tokens_per_s_per_worker"] == pytest.approx(250)
    assert rates["perf/step_time_s"] == pytest.approx(2)
    assert rates["perf/data_wait_s"] == pytest.approx(0.5)
    assert rates["perf/checkpoint_stall_s"] == 0
    flops_per_token = 6 * 10 + 12 * 3 * 2 * 8
    assert rates["perf/mfu"] == pytest.approx(500 * flops_per_token / (2 * PEAK))


def test_warm_up_counts_in_no_rate():
    run = Run()
    run.step(work=60)
    assert run.meter.rates()["perf/tokens_per_s"] == pytest.approx(1000 / 60.5)
    run.step()
    run.step()
    assert run.meter.rates()["perf/tokens_per_s"] == pytest.approx(500)
    summary = run.meter.summary()
    assert summary["tokens_per_s"] == pytest.approx(500)
    assert summary["warm_up_s"] == pytest.approx(60.5)
    assert summary["data_wait_s"] == pytest.approx(1.0)


def test_rates_look_back_over_the_logged_steps_and_the_summary_over_all():
    run = Run(log_every=2)
    run.step()
    for work in (9.5, 1.5, 1.5):
        run.step(work=work)
    assert run.meter.rates()["perf/tokens_per_s"] == pytest.approx(500)
    assert run.meter.summary()["tokens_per_s"] == pytest.approx(3000 / 14)


def test_checkpoint_and_evaluation_are_no_part_of_a_step():
    run = Run()
    run.step()
    run.step()
    with run.meter.paused():
        run.clock.now += 30
    run.clock.now += 4
    run.meter.checkpoint_stalled(4)
    run.step()
    rates = run.meter.rates()
    assert rates["perf/step_time_s"] == pytest.approx(2)
    assert rates["perf/data_wait_s"] == pytest.approx(0.5)
    assert rates["perf/checkpoint_stall_s"] == pytest.approx(4)
    run.clock.now += 3
    run.meter.checkpoint_stalled(3)
    assert run.meter.summary()["checkpoint_stall_s"] == pytest.approx(7)


def test_no_step_and_unknown_peak_give_no_number():
    run = Run(peak_flops=None)
    assert run.meter.rates() == {}
    assert run.meter.summary()["tokens_per_s"] is None
    run.step()
    assert "perf/mfu" not in run.meter.rates()
    assert run.meter.summary()["mfu"] is None
    assert run.meter.summary()["device_peak_gib"] is None


def test_frozen_weights_have_no_weight_gradient():
    toy = Toy()
    toy.body.weight.requires_grad_(False)
    assert FlopCount(toy, 8).weights == 4 * 10  # type: ignore[arg-type]


def test_short_cases_attend_to_themselves_only():
    count = FlopCount(Toy(), 8)  # type: ignore[arg-type]
    assert count.of(100, None) - count.of(100, cases=50) == 100 * 12 * 3 * 2 * (8 - 2)


def test_partitioned_parameters_count_in_full():
    toy = Toy()
    toy.body.weight.ds_numel = 10
    toy.body.weight.data = torch.empty(0)
    assert FlopCount(toy, 8).weights == 60  # type: ignore[arg-type]


@pytest.mark.slow
def test_flops_of_a_llama_agree_with_torchs_counter():
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    from distmed.model.diagnoser import Diagnoser

    config = LlamaConfig(
        vocab_size=50, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, attn_implementation="eager",
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    tokens = torch.randint(0, 50, (2, 32))
    with FlopCounterMode(display=False) as counter:
        model.model(input_ids=tokens).last_hidden_state.sum().backward()
    ours = FlopCount(Diagnoser(model, "generate"), seq_len=32).of(64, None)
    assert ours == pytest.approx(counter.get_total_flops(), rel=0.02)


def test_of_a_mixture_the_experts_that_see_a_token_count():
    from transformers import AutoModelForCausalLM, MixtralConfig

    from distmed.model.diagnoser import Diagnoser

    shape = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4}
    one, eight = (
        FlopCount(
            Diagnoser(
                AutoModelForCausalLM.from_config(
                    MixtralConfig(
                        **shape, num_hidden_layers=2, num_key_value_heads=2, num_local_experts=n, num_experts_per_tok=1
                    )
                ),
                "generate",
            ),
            seq_len=32,
        )
        for n in (1, 8)
    )
    routers = 6 * 2 * 64 * (8 - 1)
    assert eight.weights - one.weights == routers


def test_layers_of_other_head_sizes_count_by_their_own():
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    from distmed.model.diagnoser import Diagnoser

    sizes = {"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "vocab_size_per_layer_input": 50}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "global_head_dim": 32}
    config = CONFIG_MAPPING["gemma4_text"](**sizes, **heads, num_hidden_layers=6, hidden_size_per_layer_input=16)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    # The last of six layers sees the whole text.
    assert FlopCount(Diagnoser(model), 8).attention_per_length == 12 * 4 * (5 * 16 + 32)


def test_host_memory_is_a_peak():
    block = torch.ones(100 * 2**20, dtype=torch.uint8)
    during = host_peak_bytes()
    del block
    assert during > 100 * 2**20
    assert host_peak_bytes() > during - 4 * 2**20  # the kernel counts pages in batches


def test_memory_of_a_cpu_run_is_the_hosts():
    run = Run()
    memory = run.meter.memory(torch.device("cpu"))
    assert memory == {"mem/host_peak_gib": pytest.approx(host_peak_bytes() / 2**30, rel=0.1)}
    assert run.meter.summary()["host_peak_gib"] == memory["mem/host_peak_gib"]


def _worker(rank: int, folder: str, results: Any) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    block = torch.ones(rank * 300 * 2**20, dtype=torch.uint8)
    results.put((rank, len(block), Run().meter.memory(torch.device("cpu"))["mem/host_peak_gib"]))
    dist.destroy_process_group()


@pytest.mark.slow
def test_memory_is_that_of_the_largest_worker(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    workers = [context.Process(target=_worker, args=(rank, str(tmp_path), results)) for rank in range(2)]
    for worker in workers:
        worker.start()
    peaks = {rank: peak for rank, _, peak in (results.get() for _ in workers)}
    for worker in workers:
        worker.join()
    assert peaks[0] == peaks[1]
    assert peaks[0] > 0.3
