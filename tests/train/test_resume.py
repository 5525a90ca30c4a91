"""Stop anywhere, go on, and end with the weights of a run that was never stopped, to the bit."""

from __future__ import annotations

import os
import warnings

import pytest
import torch
from torch import nn

from gendyn_lite import data
from gendyn_lite.errors import UserError
from gendyn_lite.train import checkpoint, fit, load_weights
from tests.train.conftest import make_network, plain, same, weights


class Stop(BaseException):
    """Stands for a kill: nothing in the library may catch it."""


class StopAt:
    """A gradient hook that stops the run before a step is taken."""

    def __init__(self, step):
        self.step = step

    def __call__(self, model, *, epoch, step):
        if step == self.step:
            raise Stop


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


def network_with_everything(config, digits):
    """Dropout draws numbers, batch-norm keeps statistics."""
    torch.manual_seed(9)
    return nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.2), make_network(config, digits))


@pytest.mark.parametrize("stop", [1, 2, 5, 6, 7, 13, 20])
@pytest.mark.parametrize("seconds", [0, 1e9], ids=["every step", "only the end"])
def test_to_the_bit_from_any_step(config, digits, tmp_path, stop, seconds):
    config = config.replace(random_crop=1, flip=True)
    whole = network_with_everything(config, digits)
    expected = fit(whole, digits, config, device="cpu")
    stopped = network_with_everything(config, digits)
    options = {"device": "cpu", "checkpoint_dir": tmp_path, "checkpoint_seconds": seconds}
    with pytest.raises(Stop):
        fit(stopped, digits, config, **options, grad_hook=StopAt(stop))
    resumed = network_with_everything(config, digits)
    history = fit(resumed, digits, config, **options)
    assert history.resumed_from == (stop - 1 if seconds == 0 and stop > 1 else None)
    assert same(weights(resumed), weights(whole))
    assert plain(history.rows) == plain(expected.rows)


@pytest.mark.parametrize(
    "changes", [{}, {"momentum": 0.0}, {"precision": "bfloat16"}, {"precision": "float16"}], ids=str
)
def test_optimizer_and_loss_scale_go_on(config, digits, tmp_path, changes):
    config = config.replace(**changes)
    whole, resumed = make_network(config, digits), make_network(config, digits)
    fit(whole, digits, config, device="cpu")
    for stop in (4, 8, 12, 16, None):
        hook = StopAt(stop)
        try:
            fit(resumed, digits, config, device="cpu", checkpoint_dir=tmp_path, checkpoint_seconds=0, grad_hook=hook)
        except Stop:
            resumed = make_network(config, digits)
    assert same(weights(resumed), weights(whole))


@pytest.mark.parametrize("stop", [3, 6, 11, 18])
def test_a_hooks_state_goes_on(config, digits, tmp_path, stop):
    whole, resumed = make_network(config, digits), make_network(config, digits)
    fit(whole, digits, config, device="cpu", grad_hook=Scaler())
    options = {"device": "cpu", "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(Stop):
        fit(make_network(config, digits), digits, config, **options, grad_hook=Scaler(stop))
    fit(resumed, digits, config, **options, grad_hook=Scaler())
    assert same(weights(resumed), weights(whole))
    with pytest.raises(UserError, match="state of a grad_hook, but StopAt has no load_state_dict"):
        fit(resumed, digits, config, **options, grad_hook=StopAt(0))


def test_rows_probes_and_seconds_come_back_whole(config, digits, network, tmp_path):
    calls = []
    probes = {"p": lambda model, epoch: calls.append(epoch) or {"list": [epoch, 0.1], "x": epoch / 3}}
    options = {"device": "cpu", "checkpoint_dir": tmp_path, "checkpoint_seconds": 0, "probes": probes}
    with pytest.raises(Stop):
        fit(network, digits, config, **options, grad_hook=StopAt(13))
    assert calls == [0, 1, 2]
    seen = []
    history = fit(make_network(config, digits), digits, config, **options, on_epoch=seen.append)
    assert calls == [0, 1, 2, 3, 4]
    assert seen == history.rows
    assert history.column("p/list") == [[epoch, 0.1] for epoch in range(5)]
    assert history.column("seconds") == sorted(history.column("seconds"))


def test_a_finished_run_comes_back_without_training(config, digits, network, tmp_path):
    first = fit(network, digits, config, device="cpu", checkpoint_dir=tmp_path)
    files = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    again = make_network(config, digits)
    history = fit(again, digits, config, device="cpu", checkpoint_dir=tmp_path, grad_hook=StopAt(1))
    assert history.rows == first.rows
    assert history.resumed_from == 20
    assert same(weights(again), weights(network))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == files


def test_a_run_that_stopped_when_fitted_stays_so(config, digits, tmp_path):
    config = config.replace(
        epochs=200, stop_when_fitted=True, schedule="constant", learning_rate=0.1, model_options={"widths": [128]}
    )
    first = fit(make_network(config, digits), digits, config, device="cpu", checkpoint_dir=tmp_path)
    again = fit(make_network(config, digits), digits, config, device="cpu", checkpoint_dir=tmp_path)
    assert again.rows == first.rows
    assert again.last["epoch"] < 200


def test_the_last_two_are_kept(config, digits, network, tmp_path):
    fit(network, digits, config, device="cpu", checkpoint_dir=tmp_path, checkpoint_seconds=0)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        "step_0000000019.safetensors",
        "step_0000000020.safetensors",
    ]


def test_load_weights(config, digits, network, tmp_path):
    fit(network, digits, config, device="cpu", checkpoint_dir=tmp_path)
    fresh = make_network(config.replace(seed=8), digits)
    assert load_weights(fresh, tmp_path) == 20
    assert same(weights(fresh), weights(network))
    with pytest.raises(UserError, match="no checkpoint in"):
        load_weights(fresh, tmp_path / "nowhere")
    other = make_network(config.replace(model_options={"widths": [17]}), digits)
    with pytest.raises(
        UserError, match=r"fc1.weight has shape \(16, 64\) in the checkpoint, \(17, 64\) in the network"
    ):
        load_weights(other, tmp_path)
    deeper = make_network(config.replace(model_options={"widths": [16, 16]}), digits)
    with pytest.raises(UserError, match=r"only the network has 'fc3\.bias'"):
        load_weights(deeper, tmp_path)


class TestRefusals:
    """What is not this run's whole checkpoint."""

    @pytest.fixture
    def folder(self, config, digits, network, tmp_path):
        fit(network, digits, config, device="cpu", checkpoint_dir=tmp_path, checkpoint_seconds=0)
        return tmp_path

    def again(self, config, digits, folder):
        model = make_network(config, digits)
        return model, fit(model, digits, config, device="cpu", checkpoint_dir=folder)

    def test_another_configuration_names_both_hashes(self, config, digits, folder):
        other = config.replace(learning_rate=0.5)
        ids = [one.run_id(digits.fingerprint) for one in (config, other)]
        with pytest.raises(UserError, match=rf"belongs to run {ids[0]}, this configuration and data are run {ids[1]}"):
            self.again(other, digits, folder)

    def test_other_labels(self, config, digits, folder):
        with pytest.raises(UserError, match="was trained on other labels"):
            self.again(config, digits.with_train_labels(digits.train.y.flip(0)), folder)

    def test_a_newer_version(self, config, digits, folder, monkeypatch):
        monkeypatch.setattr(checkpoint, "VERSION", 0)
        with pytest.raises(UserError, match=r"written by a newer version \(format 1, this one reads 0\): update"):
            self.again(config, digits, folder)

    @pytest.mark.parametrize("name", ["model.pt", "last.ckpt", "weights.pkl", "step_0000000021.safetensors"])
    def test_a_pickle_by_name_or_content(self, config, digits, network, folder, name):
        torch.save(network.state_dict(), folder / name)
        with pytest.raises(UserError, match=r"pickle, which could run any code: .*never loaded"):
            self.again(config, digits, folder)

    def test_an_old_style_pickle(self, config, digits, folder):
        import pickle

        (folder / "step_0000000021.safetensors").write_bytes(pickle.dumps([1, 2, 3]))
        with pytest.raises(UserError, match="is a pickle"):
            self.again(config, digits, folder)

    def test_what_is_no_regular_file_is_not_read(self, config, digits, folder):
        """A pipe has no end, and neither has the device of zeros: reading one would hang or take all memory."""
        os.mkfifo(folder / "step_0000000021.safetensors")
        (folder / "step_0000000022.safetensors").symlink_to("/dev/zero")
        with pytest.warns(UserWarning, match="it is no regular file"):
            _, history = self.again(config, digits, folder)
        assert history.resumed_at == [20]

    def test_a_network_of_another_precision(self, config, digits, folder):
        with pytest.raises(UserError, match=r"has dtype torch.float32 in the checkpoint, torch.float64 in the network"):
            load_weights(make_network(config, digits).double(), folder)

    def test_a_file_in_place_of_the_folder(self, config, digits, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(UserError, match="is a file, expected a folder"):
            self.again(config, digits, tmp_path / "file")

    def test_a_folder_that_cannot_be_written(self, config, digits, tmp_path, monkeypatch):
        def full(*args):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(checkpoint.os, "replace", full)
        with pytest.raises(UserError, match=r"cannot write the checkpoint .*: No space left on device"):
            self.again(config, digits, tmp_path)
        assert list(tmp_path.iterdir()) == []


class TestDamage:
    """A damaged newest checkpoint falls back to the one before, saying so."""

    @pytest.fixture
    def folder(self, config, digits, network, tmp_path):
        with pytest.raises(Stop):
            fit(
                network, digits, config, device="cpu", checkpoint_dir=tmp_path, checkpoint_seconds=0,
                grad_hook=StopAt(13),
            )  # fmt: skip
        return tmp_path

    @staticmethod
    def damage(path, how):
        content = bytearray(path.read_bytes())
        if how == "empty":
            content = b""
        elif how == "truncated":
            content = content[: len(content) // 2]
        elif how == "one byte short":
            content = content[:-1]
        elif how == "a bit of a weight":
            content[-5] ^= 1
        elif how == "a digit of its state":
            at = content.index(b"train_loss") + 15
            content[at] = ord("1") if content[at] != ord("1") else ord("2")
        elif how == "foreign":
            from safetensors.torch import save

            content = save({"a": torch.ones(1)})
        path.write_bytes(content)

    HOWS = ("empty", "truncated", "one byte short", "a bit of a weight", "a digit of its state", "foreign")

    @pytest.mark.parametrize("how", HOWS)
    def test_falls_back_and_ends_with_the_same_weights(self, config, digits, folder, how):
        self.damage(folder / "step_0000000012.safetensors", how)
        resumed, whole = make_network(config, digits), make_network(config, digits)
        with pytest.warns(
            UserWarning, match=r"step_0000000012.safetensors is damaged \(.*\): went back to step_0000000011"
        ):
            history = fit(resumed, digits, config, device="cpu", checkpoint_dir=folder)
        assert history.resumed_from == 11
        fit(whole, digits, config, device="cpu")
        assert same(weights(resumed), weights(whole))
        assert (folder / "step_0000000012.safetensors.damaged").exists()

    def test_none_whole_is_an_error_that_says_what_to_do(self, config, digits, folder):
        for path in folder.iterdir():
            self.damage(path, "truncated")
        before = sorted(folder.iterdir())
        with pytest.raises(
            UserError, match=r"step_0000000012.safetensors is damaged .* none before it is whole: delete it"
        ):
            fit(make_network(config, digits), digits, config, device="cpu", checkpoint_dir=folder)
        assert sorted(folder.iterdir()) == before

    def test_half_written_files_are_no_checkpoints(self, config, digits, folder):
        half = (folder / "step_0000000012.safetensors").read_bytes()[:100]
        part = folder / ".step_0000000099.safetensors.123.part"
        part.write_bytes(half)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            history = fit(make_network(config, digits), digits, config, device="cpu", checkpoint_dir=folder)
        assert history.resumed_from == 12
        assert not part.exists()


def test_checkpoints_do_not_change_the_numbers(config, digits, tmp_path):
    config = config.replace(label_corruption=1.0)
    digits, _ = data.load_for_run(config)
    often, never = network_with_everything(config, digits), network_with_everything(config, digits)
    fit(often, digits, config, device="cpu", checkpoint_dir=tmp_path, checkpoint_seconds=0)
    fit(never, digits, config, device="cpu")
    assert same(weights(often), weights(never))


def test_only_checkpoints_are_discarded(config, digits, network, tmp_path):
    fit(network, digits, config, device="cpu", checkpoint_dir=tmp_path)
    (tmp_path / ".step_0000000020.safetensors.1.part").write_text("")
    (tmp_path / "step_0000000019.safetensors.damaged").write_text("")
    (tmp_path / "mine.txt").write_text("")
    checkpoint.discard(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    (tmp_path / "mine.txt").unlink()
    checkpoint.discard(tmp_path)
    assert not tmp_path.exists()


class Counting(nn.Module):
    """A network whose forward pass depends on a buffer that its state dict leaves out."""

    def __init__(self, config, digits):
        super().__init__()
        self.inner = make_network(config, digits)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.calls += 1
        return self.inner(x) / (1 + self.calls)


def test_buffers_outside_the_state_dict_go_on_too(config, digits, tmp_path):
    whole, resumed = Counting(config, digits), Counting(config, digits)
    fit(whole, digits, config, device="cpu")
    options = {"device": "cpu", "checkpoint_dir": tmp_path, "checkpoint_seconds": 0}
    with pytest.raises(Stop):
        fit(Counting(config, digits), digits, config, **options, grad_hook=StopAt(8))
    fit(resumed, digits, config, **options)
    assert same(weights(resumed), weights(whole))
    assert resumed.calls == whole.calls == 20


class Keeping:
    """A hook with a given state."""

    def __init__(self, state):
        self.state = state

    def __call__(self, model, *, epoch, step):
        pass

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"counts": {0: 1}}, "has 'counts', a dict that would not come back"),
        ({"a": [1, (2, 3)]}, "has 'a', a list that would not come back"),
        ({"a": {"b": torch.ones(2)}}, "has 'a', a dict that would not come back"),
        ({"a": torch.ones(2).to_sparse()}, "has 'a', a Tensor that would not come back"),
        ({"a": torch.ones(2, device="meta")}, "has 'a', a Tensor that would not come back"),
        ({"a": object()}, "has 'a', a object that would not come back"),
        ({1: 2}, "is not a dict with text as keys"),
        (None, "is not a dict with text as keys"),
    ],
    ids=["int key", "tuple", "nested tensor", "sparse", "meta", "object", "keys that are numbers", "none"],
)
def test_a_state_that_would_come_back_otherwise_is_refused_at_once(config, digits, network, tmp_path, state, message):
    with pytest.raises(UserError, match=message):
        fit(network, digits, config, device="cpu", checkpoint_dir=tmp_path, grad_hook=Keeping(state))
    assert not list(tmp_path.iterdir())
    fit(network, digits, config.replace(epochs=1), device="cpu", grad_hook=Keeping(state))  # no checkpoint, no matter


def test_an_extra_state_is_refused_at_once(config, digits, network, tmp_path):
    class Extra(nn.Identity):
        def get_extra_state(self):
            return {"a": 1}

    network.append(Extra())
    with pytest.raises(UserError, match=r"the network keeps '.*_extra_state', a dict, in its state_dict"):
        fit(network, digits, config, device="cpu", checkpoint_dir=tmp_path)
