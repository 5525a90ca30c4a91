"""Lengths of steps: as a loop over weights measures them; a training whose every step is as long as a masked one's."""

from __future__ import annotations

import pytest
import torch

from gendyn_lite import train
from gendyn_lite.errors import UserError
from gendyn_lite.measures import fisher
from tests.measures.fisher.test_mask import CONFIG, equal, loaded, network


class Walked:
    """Where the weights are after each step, in float64: the slow twin."""

    def __init__(self, model):
        self.places = [self._place(model)]

    def __call__(self, model, *, epoch, step):
        pass

    def after_step(self, model, optimizer):
        self.places.append(self._place(model))

    def _place(self, model):
        return torch.cat([value.detach().double().flatten() for value in model.parameters()])

    def lengths(self):
        return [float((after - before).norm()) for before, after in zip(self.places, self.places[1:], strict=False)]


def trained(make, **options):
    found, x, y = loaded()
    model = network()
    hook = make(model, x, y)
    train.fit(model, found, CONFIG, device="cpu", grad_hook=hook, **options)
    return model, hook


def test_it_measures_the_steps_of_a_masked_run_and_changes_nothing():
    plain, _ = trained(lambda model, x, y: fisher.GradientMask(0.4, (x, y)))
    measured, hook = trained(lambda model, x, y: fisher.StepLengths(fisher.GradientMask(0.4, (x, y))))
    assert equal(plain, measured) and len(hook.taken) == 9
    assert hook.path == pytest.approx(sum(hook.taken[-3:]))
    _, walked = trained(lambda model, x, y: fisher.StepLengths(Walked(model)))
    assert walked.taken == pytest.approx(walked.inner.lengths(), rel=1e-6)


def test_every_step_is_as_long_as_that_of_the_masked_run_without_a_mask():
    masked = trained(lambda model, x, y: fisher.StepLengths(fisher.GradientMask(0.25, (x, y))))[1]
    walked = {}

    def control(model, x, y):
        walked["by"] = Walked(model)
        return Both(fisher.StepLengths(lengths=masked.taken), walked["by"])

    _, both = trained(control)
    assert walked["by"].lengths() == pytest.approx(masked.taken, rel=1e-5)
    assert both.first.path == pytest.approx(masked.path)
    places = walked["by"].places
    assert ((places[-1] - places[0]) != 0).double().mean() > 0.8  # all weights move, but those of black pixels


class Both:
    """One hook after the other."""

    def __init__(self, first, second):
        self.first, self.second = first, second

    def __call__(self, model, **at):
        self.first(model, **at)

    def after_step(self, model, optimizer):
        self.first.after_step(model, optimizer)
        self.second.after_step(model, optimizer)

    def epoch_end(self, model, epoch):
        self.first.epoch_end(model, epoch)


def test_a_resumed_run_goes_on_to_the_bit(tmp_path):
    class Stop(fisher.StepLengths):
        def __call__(self, model, *, epoch, step):
            if step == 5:
                raise KeyboardInterrupt
            super().__call__(model, epoch=epoch, step=step)

    def made(kind):
        return lambda model, x, y: kind(fisher.GradientMask(0.4, (x, y)))

    whole, hook = trained(made(fisher.StepLengths))
    options = {"checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        trained(made(Stop), **options)
    resumed, again = trained(made(fisher.StepLengths), **options)
    assert equal(whole, resumed) and again.taken == hook.taken and again.path == hook.path


def test_steps_without_a_length_are_refused():
    with pytest.raises(UserError, match="there are 4 step lengths, none for step 5"):
        trained(lambda model, x, y: fisher.StepLengths(lengths=[0.1] * 4))
