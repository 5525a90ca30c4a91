"""Stop anywhere, go on, and end with the weights of a run that was never stopped, to the bit."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import save
from torch import nn

from gendyn_lite.errors import UserError
from gendyn_lite.train import checkpoint
from tests.train.conftest import Stop, StopAt, make_network, same, stop_and_go_on, trained, weights

KILLS = 12


def file(step: int) -> str:
    """The name of the checkpoint that is written after a step."""
    return f"step_{step:010d}.safetensors"


class Scaler(StopAt):
    """A hook with a state, which changes every gradient: 1, 1/2, 1/3, … in turn, and a mask that it redraws."""

    def __init__(self, step=0):
        super().__init__(step)
        self.count, self.mask = 0, None

    def __call__(self, model, *, epoch, step):
        super().__call__(model, epoch=epoch, step=step)
        self.count += 1
        for parameter in model.parameters():
            parameter.grad.div_(self.count)
        if self.mask is not None:
            next(model.parameters()).grad.mul_(self.mask)

    def epoch_end(self, model, epoch):
        self.mask = next(model.parameters()).detach() > 0.01 * epoch

    def state_dict(self):
        return {"count": self.count} | ({} if self.mask is None else {"mask": self.mask})

    def load_state_dict(self, state):
        self.count, self.mask = state["count"], state.get("mask")


class Counting(nn.Module):
    """Its forward pass depends on a buffer that its state dict leaves out."""

    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        self.calls += self.training
        return x / (1 + self.calls)


def network_with_everything(config, digits):
    """Dropout draws numbers, batch-norm keeps statistics, and so does a buffer outside the state dict."""
    torch.manual_seed(9)
    return nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.2), make_network(config, digits), Counting())


@pytest.mark.parametrize("stop", [1, 2, 5, 6, 13, 20])
@pytest.mark.parametrize("seconds", [0, 1e9], ids=["every step", "only the end"])
def test_to_the_bit_from_any_step(config, digits, tmp_path, stop, seconds):
    config = config.replace(random_crop=1, flip=True)
    make = network_with_everything
    resumed = stop_and_go_on(config, digits, tmp_path, stop, make=make, checkpoint_seconds=seconds)
    assert resumed.history.resumed_at == ([stop - 1] if seconds == 0 else [])
    assert resumed.same_as(trained(config, digits, make(config, digits)))
    assert resumed.model[-1].calls == 20


@pytest.mark.parametrize("stop", [3, 6, 11, 18])
def test_a_hooks_state_goes_on(config, digits, tmp_path, stop):
    resumed = stop_and_go_on(config, digits, tmp_path, stop, hook=Scaler)
    assert resumed.same_as(trained(config, digits, grad_hook=Scaler()))
    with pytest.raises(UserError, match="state of a grad_hook, but StopAt has no load_state_dict"):
        trained(config, digits, checkpoint_dir=tmp_path, grad_hook=StopAt())


class Loud(nn.Identity):
    """Makes gradients so large that they overflow in float16 until the loss scale has come down."""

    def forward(self, x):
        return 1000 * x


def test_a_loss_scale_that_has_come_down_goes_on(config, digits, tmp_path):
    config = config.replace(precision="float16", learning_rate=1e-6)

    def make(config, digits):
        return nn.Sequential(Loud(), make_network(config, digits))

    whole = trained(config, digits, make(config, digits))
    assert stop_and_go_on(config, digits, tmp_path, 14, make=make).same_as(whole)
    assert not same(whole.weights, weights(make(config, digits)))


def test_rows_probes_and_seconds_come_back_whole(config, digits, tmp_path):
    calls, seen = [], []
    probes = {"p": lambda model, epoch: calls.append(epoch) or {"list": [epoch, 0.1], "x": epoch / 3}}
    history = stop_and_go_on(config, digits, tmp_path, 13, probes=probes, on_epoch=seen.append).history
    assert calls == [0, 1, 2, 3, 4]
    assert seen[:3] == seen[3:6] and seen[3:] == history.rows  # after a resume the restored ones first
    assert history.column("p/list") == [[epoch, 0.1] for epoch in range(5)]
    assert history.column("seconds") == sorted(history.column("seconds"))


def test_a_finished_run_comes_back_without_training(config, digits, tmp_path):
    first = trained(config, digits, checkpoint_dir=tmp_path, checkpoint_seconds=0)
    files = {path: path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())}
    assert [path.name for path in files] == [file(19), file(20)]  # the last two are kept
    again = trained(config, digits, checkpoint_dir=tmp_path, grad_hook=StopAt(1))
    assert again.history.rows == first.history.rows and again.history.resumed_at == [20]
    assert again.same_as(first)
    assert {path: path.stat().st_mtime_ns for path in sorted(tmp_path.iterdir())} == files


@pytest.mark.skipif(not hasattr(os, "fork"), reason="SIGKILL test: needs os.fork (not on Windows)")
def test_killed_at_random_moments_and_in_writes_it_ends_the_same_to_the_bit(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("killing.py")), str(tmp_path), str(KILLS)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    assert min(found["a moment"], found["a change"] + found["a write"], found["resumed in the middle"]) >= KILLS
    assert found["half-written files"] >= found["a write"] >= KILLS // 2
    assert found["equal"] == found["ends"] >= 1


class TestRefusals:
    """What is not this run's whole checkpoint, or not this network's."""

    @pytest.fixture
    def folder(self, config, digits, tmp_path):
        trained(config, digits, checkpoint_dir=tmp_path)
        return tmp_path

    @pytest.mark.parametrize(
        ("widths", "message"),
        [
            ([17], r"fc1.weight has shape \(16, 64\) in the checkpoint, \(17, 64\) in the network"),
            ([16, 16], r"only the network has 'fc3\.bias'"),
        ],
        ids=["shape", "depth"],
    )
    def test_another_network(self, config, digits, folder, widths, message):
        with pytest.raises(UserError, match=message):
            network = make_network(config.replace(model_options={"widths": widths}), digits)
            trained(config, digits, network, checkpoint_dir=folder)

    def test_another_run(self, config, digits, folder, monkeypatch):
        other = config.replace(learning_rate=0.5)
        ids = [one.run_id(digits.fingerprint) for one in (config, other)]
        with pytest.raises(UserError, match=rf"belongs to run {ids[0]}, this configuration and data are run {ids[1]}"):
            trained(other, digits, checkpoint_dir=folder)
        with pytest.raises(UserError, match="was trained on other labels"):
            trained(config, digits.with_train_labels(digits.train.y.flip(0)), checkpoint_dir=folder)
        images = dataclasses.replace(digits, train=digits.train._replace(x=digits.train.x.flip(3)))
        with pytest.raises(UserError, match=r"was trained on other images .* give other data another fingerprint"):
            trained(config, images, checkpoint_dir=folder)
        tanh = make_network(config, digits)
        tanh.act1 = nn.Tanh()
        with pytest.raises(UserError, match=r"was trained on other layers .* build the one that was trained"):
            trained(config, digits, tanh, checkpoint_dir=folder)
        for before, after in ((nn.LeakyReLU(0.1), nn.LeakyReLU(0.2)), (nn.Dropout(0.1), nn.Dropout(0.2))):
            first, second = (make_network(config, digits) for _ in range(2))
            first.act1, second.act1 = before, after
            trained(config, digits, first, checkpoint_dir=folder.parent / str(after))
            with pytest.raises(UserError, match="was trained on other settings of layers"):
                trained(config, digits, second, checkpoint_dir=folder.parent / str(after))
        monkeypatch.setattr(checkpoint, "VERSION", 0)
        with pytest.raises(UserError, match=r"written by a newer version \(format 1, this one reads 0\): update"):
            trained(config, digits, checkpoint_dir=folder)

    @pytest.mark.parametrize("name", ["model.pt", "last.ckpt", "weights.pkl"])
    def test_a_pickle(self, config, digits, folder, name):
        (folder / name).write_text("")
        with pytest.raises(UserError, match=r"pickle, which could run any code, and is never loaded"):
            trained(config, digits, checkpoint_dir=folder)

    def test_a_folder_that_cannot_be_written(self, config, digits, tmp_path, monkeypatch):
        def full(*args):
            raise OSError(28, "No space left on device")

        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="is a file, expected a folder"):
            trained(config, digits, checkpoint_dir=tmp_path / "file")
        monkeypatch.setattr(Path, "replace", full)
        with pytest.raises(UserError, match=r"cannot write the checkpoint .*: No space left on device"):
            trained(config, digits, checkpoint_dir=tmp_path / "new")
        assert list((tmp_path / "new").iterdir()) == []


def flipped(content: bytes, at: int) -> bytes:
    """With the last bit of a byte changed; that of a digit gives another digit."""
    return content[:at] + bytes([content[at] ^ 1]) + content[at:][1:]


HOWS = {
    "empty": lambda content: b"",
    "truncated": lambda content: content[: len(content) // 2],
    "one byte short": lambda content: content[:-1],
    "a bit of a weight": lambda content: flipped(content, len(content) - 5),
    "a digit of its state": lambda content: flipped(content, content.index(b"train_loss") + 18),
    "foreign": lambda content: save({"a": torch.ones(1)}),
    "pickle": lambda content: pickle.dumps([1, 2, 3]),
}


class TestDamage:
    """A damaged newest checkpoint falls back to the one before, saying so."""

    @pytest.fixture
    def folder(self, config, digits, network, tmp_path):
        options = {"checkpoint_dir": tmp_path, "checkpoint_seconds": 0, "grad_hook": StopAt(13)}
        with pytest.raises(Stop):
            trained(config, digits, network, **options)
        return tmp_path

    @pytest.mark.parametrize("how", HOWS.values(), ids=HOWS)
    def test_falls_back_and_ends_with_the_same_weights(self, config, digits, folder, how):
        (folder / file(12)).write_bytes(how((folder / file(12)).read_bytes()))
        with pytest.warns(UserWarning, match=rf"{file(12)} is damaged \(.*\): went back to {file(11)}"):
            resumed = trained(config, digits, checkpoint_dir=folder)
        assert resumed.history.resumed_at == [11]
        assert resumed.same_as(trained(config, digits))
        assert (folder / f"{file(12)}.damaged").exists()

    def test_none_whole_is_an_error_that_says_what_to_do(self, config, digits, folder):
        for path in folder.iterdir():
            path.write_bytes(path.read_bytes()[:999])
        before = sorted(folder.iterdir())
        with pytest.raises(UserError, match=rf"{file(12)} is damaged .* all older ones: delete it"):
            trained(config, digits, checkpoint_dir=folder)
        assert sorted(folder.iterdir()) == before

    def test_half_written_files_are_no_checkpoints(self, config, digits, folder):
        part = folder / ".step_0000000099.safetensors.123.gendyn-partial"
        part.write_bytes((folder / file(12)).read_bytes()[:100])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert trained(config, digits, checkpoint_dir=folder).history.resumed_at == [12]
        assert not part.exists()

    def test_only_checkpoints_are_discarded(self, folder):
        for name in (f".{file(20)}.1.gendyn-partial", f"{file(19)}.damaged", "mine.txt"):
            (folder / name).write_text("")
        checkpoint.discard(folder)
        assert [path.name for path in folder.iterdir()] == ["mine.txt"]
        (folder / "mine.txt").unlink()
        checkpoint.discard(folder)
        assert not folder.exists()


STATES = {
    "int key": ({"counts": {0: 1}}, "has 'counts', a dict that a checkpoint cannot restore"),
    "tuple": ({"a": [1, (2, 3)]}, "has 'a', a list that a checkpoint cannot restore"),
    "nested tensor": ({"a": {"b": torch.ones(2)}}, "has 'a', a dict that a checkpoint cannot restore"),
    "sparse": ({"a": torch.ones(2).to_sparse()}, "has 'a', a Tensor that a checkpoint cannot restore"),
    "meta": ({"a": torch.ones(2, device="meta")}, "has 'a', a Tensor that a checkpoint cannot restore"),
    "object": ({"a": object()}, "has 'a', a object that a checkpoint cannot restore"),
    "keys that are numbers": ({1: 2}, "is not a dict with strings as keys"),
    "none": (None, "is not a dict with strings as keys"),
}


@pytest.mark.parametrize(("state", "message"), STATES.values(), ids=STATES)
def test_a_state_that_would_come_back_otherwise_is_refused_at_once(config, digits, tmp_path, state, message):
    hook = StopAt()
    hook.state_dict = lambda: state
    with pytest.raises(UserError, match=message):
        trained(config, digits, checkpoint_dir=tmp_path, grad_hook=hook)
    assert not list(tmp_path.iterdir())
    trained(config.replace(epochs=1), digits, grad_hook=hook)  # no checkpoint, no matter


def test_an_extra_state_is_refused_at_once(config, digits, network, tmp_path):
    class Extra(nn.Identity):
        def get_extra_state(self):
            return {"a": 1}

    network.append(Extra())
    with pytest.raises(UserError, match=r"state_dict holds '.*_extra_state', a dict, but checkpoints hold tensors"):
        trained(config, digits, network, checkpoint_dir=tmp_path)


class Clock:
    """Time passes only in training steps and in the evaluations at which a probe is called; checkpoints as written."""

    def __init__(self, monkeypatch, *, step, evaluation):
        self.now, self.each, self.evaluation = 0.0, step, evaluation
        self.saved, self.lost = 0.0, []
        monkeypatch.setattr("gendyn_lite.train.run.time.monotonic", lambda: self.now)
        write = checkpoint.write

        def written(folder, packed, **options):
            self.saved = self.now
            return write(folder, packed, **options)

        monkeypatch.setattr(checkpoint, "write", written)
        self.probes = {"clock": lambda model, epoch: self.passes(self.evaluation) or {}}

    def passes(self, seconds):
        """Time passes, and a kill at its end would cost what has passed since the last checkpoint."""
        self.now += seconds
        self.lost.append(self.now - self.saved)

    def __call__(self, model, *, epoch, step):
        self.passes(self.each)


@pytest.mark.parametrize(
    ("step", "evaluation"), [(0.01, 0.0), (1.0, 0.0), (4.0, 4.0), (2.0, 20.0), (1.0, 24.0), (4.9, 100.0)], ids=str
)
def test_a_kill_costs_at_most_half_a_minute_or_the_evaluation_that_it_comes_in(
    config, digits, tmp_path, monkeypatch, step, evaluation
):
    clock = Clock(monkeypatch, step=step, evaluation=evaluation)
    config = config.replace(epochs=60, eval_every=2)
    options = {"probes": clock.probes, "grad_hook": clock, "checkpoint_dir": tmp_path}
    trained(config, digits, **options)
    assert len(clock.lost) == 60 * 5 + 31  # every step and every evaluation, the first one before training
    assert max(clock.lost[1:]) <= max(30.0, evaluation)


@pytest.mark.parametrize("early", [False, True], ids=["between epochs", "within the first"])
def test_a_kill_in_a_long_evaluation_costs_the_evaluation_alone(config, digits, tmp_path, monkeypatch, early):
    if early:
        config = config.replace(eval_schedule="early", batch_size=8)  # 19 steps an epoch
    calls, at = [], 10 / 19 if early else 2

    def probe(model, epoch):
        calls.append(epoch)
        if epoch == at and calls.count(at) == 1:
            raise Stop
        return {"epoch": epoch}

    monkeypatch.setattr("gendyn_lite.train.run.Run._save_is_due", lambda run, *, ahead=0.0: ahead > 0)  # before it
    options = {"checkpoint_dir": tmp_path, "probes": {"p": probe}}
    with pytest.raises(Stop):
        trained(config, digits, **options)
    resumed = trained(config, digits, **options)
    assert resumed.history.resumed_at == [10]  # the second epoch ends there too, of 5 steps each
    monkeypatch.undo()
    assert resumed.same_as(trained(config, digits, probes={"p": lambda model, epoch: {"epoch": epoch}}))


def test_a_run_that_was_killed_within_an_epoch_does_not_end_there(config, digits, tmp_path):
    config = config.replace(eval_schedule="early", batch_size=8, stop_at_loss=2.3)  # low enough within the first epoch
    resumed = stop_and_go_on(config, digits, tmp_path, 15)
    assert resumed.history.resumed_at == [14] and resumed.history.column("step") == [0, 1, 2, 5, 10, 19]
    assert resumed.same_as(trained(config, digits))
