import random

import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from spynco_mm.datasets import EmbeddedPhotographs, EpochSampler
from spynco_mm.datasets.samplers import seeded

PIPELINE = [
    dict(type="Flip", keys=["img_gray"]),
    dict(type="Flip", keys=["img_color"]),
    dict(type="HandcraftedTranslation"),
    dict(type="PackInputs", keys=["img_gray", "img_color"], meta_keys=["sample_idx"]),
]


@pytest.fixture(scope="module")
def numbers():
    return list(range(100))


@pytest.fixture
def photographs():
    return EmbeddedPhotographs(photos=["coffee", "flower"], crops_per_photo=8, pipeline=PIPELINE)


def epochs(dataset, num_workers, count=2, seed=3, **kwargs):
    """Items by index, of each epoch."""
    loader = Runner.build_dataloader(
        dict(
            dataset=dataset,
            batch_size=4,
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            sampler=dict(type="EpochSampler"),
            **kwargs,
        ),
        seed=seed,
    )
    result = []
    for epoch in range(count):
        loader.sampler.set_epoch(epoch)
        items = {}
        for batch in loader:
            for i, sample in enumerate(batch["data_samples"]):
                items[sample.sample_idx] = [
                    batch["inputs"][k][i] for k in ("img_gray", "img_color")
                ]
        result.append(items)
    return result


def same(one, other):
    return all(torch.equal(a, b) for i in one for a, b in zip(one[i], other[i]))


def test_seeds_follow_from_seed_epoch_and_index(numbers):
    sampler = EpochSampler(numbers, seed=1)
    first = dict(sampler)
    assert sorted(first) == numbers
    assert len(set(first.values())) == 100
    assert dict(sampler) == first == dict(EpochSampler(numbers, shuffle=False, seed=1))
    assert all(type(value) is int for pair in sampler for value in pair)
    sampler.set_epoch(1)
    assert not set(dict(sampler).values()) & set(first.values())
    assert not set(dict(EpochSampler(numbers, seed=2)).values()) & set(first.values())


def test_ranks_share_the_seeds_and_split_the_indices(numbers, monkeypatch):
    whole = dict(EpochSampler(numbers, seed=1))
    parts = []
    for rank in range(3):
        module = "mmengine.dataset.sampler.get_dist_info"
        monkeypatch.setattr(module, lambda rank=rank: (rank, 3))
        parts.append(dict(EpochSampler(numbers, seed=1, round_up=False)))
    assert {key: value for part in parts for key, value in part.items()} == whole
    assert sum(map(len, parts)) == 100


def test_items_do_not_depend_on_workers(photographs):
    alone = epochs(photographs, 0)
    workers = epochs(photographs, 2, collate_fn=dict(type="colorization_collate"))
    assert same(alone[0], workers[0]) and same(alone[1], workers[1])


def test_items_do_not_depend_on_the_world_size(photographs, monkeypatch):
    (alone,) = epochs(photographs, 0, count=1)
    ranks = {}
    for rank in range(2):
        module = "mmengine.dataset.sampler.get_dist_info"
        monkeypatch.setattr(module, lambda rank=rank: (rank, 2))
        (items,) = epochs(photographs, 0, count=1)
        assert len(items) == len(alone) // 2
        ranks.update(items)
    assert same(alone, ranks)


def test_epochs_and_seeds_differ(photographs):
    (first, second), (other,) = epochs(photographs, 0), epochs(photographs, 0, count=1, seed=4)
    assert not any(same({i: first[i]}, {i: second[i]}) for i in first)
    assert not any(same({i: first[i]}, {i: other[i]}) for i in first)


def test_a_resumed_run_sees_the_same_epoch(photographs):
    loader_epochs = epochs(photographs, 0, count=3)
    sampler = EpochSampler(photographs, seed=3)
    sampler.set_epoch(2)  # as mmengine does after a resume
    for index, seed in sampler:
        packed = photographs[index, seed]
        np.testing.assert_array_equal(packed["inputs"]["img_gray"], loader_epochs[2][index][0])


@pytest.mark.parametrize("kind", ["ConcatDataset", "RepeatDataset"])
def test_a_wrapper_of_data_sets_wants_another_sampler(photographs, kind):
    inner = dict(datasets=[photographs] * 2) if kind == "ConcatDataset" else dict(times=2)
    inner = inner if "datasets" in inner else dict(inner, dataset=photographs)
    loader = dict(dataset=dict(type=kind, **inner), batch_size=4, num_workers=0)
    loader["collate_fn"] = dict(type="colorization_collate")
    with pytest.raises(ValueError, match=f"which a {kind} cannot pass on; set sampler=dict"):
        Runner.build_dataloader(dict(loader, sampler=dict(type="EpochSampler")))
    loader["sampler"] = dict(type="mmengine.DefaultSampler", shuffle=True)
    batches = list(Runner.build_dataloader(loader))
    assert sum(len(batch["inputs"]["img_gray"]) for batch in batches) == 2 * len(photographs)


def draws():
    return random.random(), np.random.random(), torch.rand(1).item()


def test_seeded_restores_every_generator():
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    expected = [draws() for _ in range(2)]
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(0)
    assert draws() == expected[0]
    with pytest.raises(KeyError), seeded(5):
        inside = draws()
        raise KeyError
    assert draws() == expected[1]
    with seeded(5):
        assert draws() == inside


def test_an_int_draws_from_the_global_generators(photographs):
    np.random.seed(0)
    first, second = photographs[3], photographs[3]
    np.random.seed(0)
    again = photographs[3]
    assert torch.equal(first["inputs"]["img_color"], again["inputs"]["img_color"])
    assert not torch.equal(first["inputs"]["img_color"], second["inputs"]["img_color"])
