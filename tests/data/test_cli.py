"""`gendyn data` and `python -m data_scripts`: what is said, and the exit code."""

from __future__ import annotations

import pytest

from data_scripts import cli
from data_scripts.__main__ import main
from data_scripts.catalogue import ENTRIES
from gendyn_lite import data

from . import trees


def test_the_list_names_size_licence_source_and_what_is_prepared(tmp_path, capsys):
    pets = trees.write(tmp_path / "pets", trees.files())
    assert main([f"folder:{pets}", "--root", str(tmp_path / "data")]) == 0
    capsys.readouterr()
    assert main(["--list", "--root", str(tmp_path / "data")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["name", "size", "licence", "source", "prepared"]
    for name, entry in ENTRIES.items():
        (line,) = [line for line in lines if line.startswith(f"{name} ")]
        assert entry.size in line
        assert entry.licence in line
        assert entry.source in line
        assert line.endswith("embedded" if "embedded" in entry.size else "no")
    assert f"own images (pets), in {tmp_path / 'data'}" in lines[-1]
    assert set(ENTRIES) == set(data.names()) - {"folder:PATH"}


def test_preparing_reports_and_verify_agrees(tmp_path, capsys):
    pets = trees.write(tmp_path / "pets", trees.files())
    root = ["--root", str(tmp_path / "data")]
    assert main([f"folder:{pets}", *root, "--size", "4"]) == 0
    said = capsys.readouterr().out
    assert "own images (pets), 4x4: 6 training and 4 test images, 2 classes, fingerprint" in said
    assert main(["--verify", f"folder:{pets}", *root]) == 0
    assert "every byte is as it was prepared" in capsys.readouterr().out


def test_what_is_prepared_is_not_fetched_again(tmp_path, capsys, monkeypatch):
    trees.write(tmp_path, {"c/" + name: raw for name, raw in tree().items()})
    assert main(["cifar10", "--from", str(tmp_path / "c"), "--root", str(tmp_path)]) == 0
    monkeypatch.setattr(cli, "fetch", None)
    assert main(["cifar10", "--root", str(tmp_path)]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("already prepared: CIFAR-10 (PNG, ")


def tree():
    from data_scripts.cifar import CIFAR10_CLASSES

    return trees.files(CIFAR10_CLASSES, 1, 1, "png", size=(32, 32))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["minst"], "unknown dataset 'minst': did you mean 'mnist'?", id="misspelt"),
        pytest.param([], "needs a NAME, --list or --verify NAME; names: digits", id="no name"),
        pytest.param(
            ["imagenet"], "ImageNet (ILSVRC 2012) cannot be fetched: get it from www.image-net.org", id="terms"
        ),
        pytest.param(["--verify", "mnist"], "mnist is not prepared in", id="verify what is not there"),
        pytest.param(["cifar10", "--from", "nowhere"], "nowhere does not exist: expected a folder", id="no source"),
        pytest.param(["cifar10", "--size", "8"], "--size is 8, expected a positive number of pixels, and", id="size"),
        pytest.param(["folder:x", "--size", "0"], "--size is 0, expected a positive number", id="size 0"),
        pytest.param(["mnist", "--description", "x"], "MNIST is accepted byte for byte only", id="description"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("error: ")
    assert said.err.count("\n") == 1
    assert message in said.err


@pytest.mark.parametrize("name", ["digits", "two_moons", "nested_rings"])
def test_what_is_embedded_needs_nothing(tmp_path, capsys, name):
    assert main([name, "--root", str(tmp_path)]) == 0
    assert "nothing to prepare" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_an_interrupt_is_one_line(monkeypatch, capsys):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "run", interrupted)
    assert main(["mnist"]) == 130
    assert "run the same command again" in capsys.readouterr().err
