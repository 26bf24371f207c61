from __future__ import annotations

import itertools

import pytest
import torch

from distmed.checkpoint.frozen import partial_hash, persistent_buffers, wrapped_sum


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
def test_the_hash_of_the_parts_adds_up_at_any_world_size(dtype: torch.dtype) -> None:
    whole = (torch.randn(1_100_003) * 50).to(dtype)
    expected = partial_hash(whole, 0)
    for cuts in ([0, 5, 1_048_577, 1_100_003], [0, 1_100_003], [0, 0, 400_000, 1_100_003]):
        parts = [partial_hash(whole[a:b], a) for a, b in itertools.pairwise(cuts)]
        assert wrapped_sum(parts) == expected


def test_a_changed_or_moved_element_changes_the_hash() -> None:
    whole = torch.randn(1000)
    expected = partial_hash(whole, 0)
    for index in (0, 499, 999):
        other = whole.clone()
        other.view(torch.int32)[index] ^= 1
        assert partial_hash(other, 0) != expected
    swapped = whole.clone()
    swapped[[3, 4]] = whole[[4, 3]]
    assert partial_hash(swapped, 0) != expected
    assert partial_hash(torch.cat([whole, torch.zeros(1)]), 0) != expected


def test_only_buffers_of_the_state_dict_count() -> None:
    module = torch.nn.Sequential(torch.nn.BatchNorm1d(3))
    module.register_buffer("cache", torch.zeros(2), persistent=False)
    assert set(persistent_buffers(module)) == {name for name in module.state_dict() if "weight" not in name} - {
        "0.bias"
    }
