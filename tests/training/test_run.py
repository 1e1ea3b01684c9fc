"""A training under way: what a step depends on, and what of it a checkpoint holds."""

import pytest
import torch

from one_training import SMALL, small_training
from rgbt_fusion.training import TrainConfig
from rgbt_fusion.training.distributed import Processes
from rgbt_fusion.training.objective import LocalizationObjective
from rgbt_fusion.training.run import Run, keep_ratio_at, mixed_seed
from rgbt_fusion.training.samples import Sampler, open_clips
from rgbt_fusion.weights.pretrained import create_model


def make_run(folder, seed: int = 0) -> tuple[Run, Sampler]:
    config = small_training(steps=4, overrides=SMALL | {"drop_path": 0.5, "depth": 2})
    torch.manual_seed(seed)
    model = create_model(config.model, **config.overrides)
    alone = Processes(0, 1)
    objective = LocalizationObjective(model, config.loss, alone)
    return Run(config, objective, torch.device("cpu"), alone, folder), Sampler.of(
        config, open_clips(config, "synthetic"), model
    )


def test_a_step_does_not_depend_on_random_numbers_drawn_before(tmp_path):
    results = []
    for draws in (0, 7):
        run, sampler = make_run(tmp_path)
        assert run.resume() == 0
        torch.rand(draws)
        run.step(0, sampler.batch(0, 0, 2))
        results.append(run.model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


def test_a_checkpoint_brings_another_run_to_the_same_place(tmp_path):
    run, sampler = make_run(tmp_path)
    run.resume()
    run.step(0, sampler.batch(0, 0, 2))
    run.save(1)
    other, _ = make_run(tmp_path, seed=5)
    assert other.resume() == 1
    for one in (run, other):
        one.step(1, sampler.batch(1, 0, 2))
    for ours, theirs in (
        (run.model.state_dict(), other.model.state_dict()),
        (run.average.values, other.average.values),
    ):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_the_values_are_means_since_they_were_last_read(tmp_path):
    run, sampler = make_run(tmp_path)
    run.resume()
    losses = []
    for step in range(2):
        run.step(step, sampler.batch(step, 0, 2))
        losses.append(run.history[-1][1][0].item())
    assert run.read_values()["loss"] == pytest.approx(sum(losses) / 2)
    assert run.history == []


def test_elimination_sets_in_along_a_cosine():
    config = TrainConfig(model="ostrack_tiny_128", steps=300)
    model = create_model("ostrack_tiny_128", **SMALL)
    ratios = [keep_ratio_at(step, config, model) for step in (0, 20, 60, 100, 299)]
    assert ratios == pytest.approx([1.0, 1.0, 0.85, 0.7, 0.7])
    assert keep_ratio_at(299, config, create_model("two_stream_tiny_128", **SMALL)) is None


def test_seeds_do_not_meet():
    seeds = {mixed_seed(seed, number) for seed in range(100) for number in range(100)}
    assert len(seeds) == 10_000
    assert all(0 <= seed < 1 << 63 for seed in seeds)
