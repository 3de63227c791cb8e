"""The learning rate and weight decay over a training."""

import pytest
import torch

from r21d_core.study.schedule import lr_at_step, shrinkage, steps_per_epoch
from r21d_core.study.spec import Spec


def test_lr_warms_up_then_decays_in_steps():
    spec = Spec()
    rates = [lr_at_step(spec, epoch * 100, 100) for epoch in range(45)]
    assert rates[0] == pytest.approx(0.01 / 1000) and rates[5] == pytest.approx(0.005, rel=0.01)
    assert rates[10:20] == [0.01] * 10 and lr_at_step(Spec(warmup_epochs=0.5), 4, 100) == 0.01 * 5 / 50
    assert rates[20:] == pytest.approx([1e-3] * 10 + [1e-4] * 10 + [1e-5] * 5)


@pytest.mark.parametrize("epochs", [0.01, 0.05, 1.3])
def test_warmup_that_ends_within_a_step_does_not_exceed_lr(epochs):
    spec = Spec(warmup_epochs=epochs)
    assert max(lr_at_step(spec, step, 15) for step in range(60)) == pytest.approx(spec.lr, rel=1e-12)


def test_cosine_schedule_is_that_of_torch():
    spec, parameter = Spec(lr_schedule="cosine", lr=0.3, epochs=6, warmup_epochs=1), torch.nn.Parameter(torch.zeros(1))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(torch.optim.SGD([parameter], spec.lr), 5 * 7)
    rates = []
    for _ in range(5 * 7):
        rates += scheduler.get_last_lr()
        scheduler.optimizer.step()
        scheduler.step()
    assert [lr_at_step(spec, step, 7) for step in range(7, 42)] == pytest.approx(rates)
    assert lr_at_step(spec, 6, 7) == spec.lr


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("schedule", ["cosine", "step"])
def test_shrinkage_is_that_of_sgd_without_gradient(nesterov, schedule):
    spec = Spec(
        nesterov=nesterov, lr_schedule=schedule, epochs=6, warmup_epochs=1, lr=0.3, weight_decay=0.02,
        clips_per_epoch=70, batch_size=32,
    )  # fmt: skip
    parameter = torch.nn.Parameter(torch.ones(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([parameter], spec.lr, spec.momentum, weight_decay=0.02, nesterov=nesterov)
    parameter.grad = torch.zeros_like(parameter)
    assert steps_per_epoch(spec) == 3
    for step in range(18):
        optimizer.param_groups[0]["lr"] = lr_at_step(spec, step, 3)
        optimizer.step()
    assert 0.2 < shrinkage(spec) == pytest.approx(1 - parameter.item())
