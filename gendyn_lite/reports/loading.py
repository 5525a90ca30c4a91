"""Load the network and the data that a user names on the command line, or refuse them with a one-line error."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import pickle
import signal
import socket
import sys
import threading
import zipfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor, nn

from gendyn_lite import data
from gendyn_lite.data import ImageData, sources
from gendyn_lite.data.loading import FOLDER, side_of
from gendyn_lite.errors import UserError, first_line, named_path, unknown_name
from gendyn_lite.measures.per_example.checks import check_whole, dtype_name
from gendyn_lite.measures.per_example.guards import check_eval
from gendyn_lite.reports import report
from gendyn_lite.threads import threads
from gendyn_lite.train.device import choose_device

ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")  # recognized by the last suffix
MOST_SIDE = 4096  # pixels
BUILD_SECONDS = 60  # longest time for a function to make a network
FORM = "expected FILE.py:FUNCTION, PACKAGE.MODULE:FUNCTION, or the name of a network of torchvision"
Made = Callable[[], Any]


class _TooLongError(Exception):
    """A function took too long."""


class _NetworkError(OSError):
    """A function tried to connect to another machine."""


def network(text: str, *, num_classes: int) -> nn.Module:
    """Make the network that a text names.

    Args:
        text: ``"FILE.py:FUNCTION"`` or ``"PACKAGE.MODULE:FUNCTION"``, a function without required arguments that
            returns a network; or the name of a network of torchvision.
        num_classes: Number of classes of the data, for networks of torchvision.

    Returns:
        The network, in eval mode. Networks of torchvision have new random weights.

    Raises:
        UserError: The function is not found, needs arguments, connects to another machine, takes more than a minute,
            raises an exception, or does not return a network.

    >>> type(network("resnet18", num_classes=10)).__name__
    'ResNet'
    """
    place, colon, function = text.rpartition(":")
    if colon and not place:
        raise UserError(f"{text!r} names no file or module before the colon: {FORM}")
    made = _made(lambda: _named(place, function)() if colon else _torchvision(text, num_classes), text)
    if not isinstance(made, nn.Module):
        raise UserError(f"{text} gives a {type(made).__name__}, expected a network (torch.nn.Module)")
    check_eval(made.eval())
    return made


def _torchvision(name: str, num_classes: int) -> nn.Module:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        near = unknown_name("network", name, known)
        raise UserError(f"{str(near).partition(' Valid')[0]} {FORM}")
    options = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
    return torchvision.models.get_model(name, weights=None, num_classes=num_classes, **options)


def _named(place: str, function: str) -> Made:
    """Import the function from a file or a module."""
    try:
        if place.endswith(".py"):
            path = named_path(place, what="MODEL")
            if not path.is_file():
                raise UserError(f"{path} is no file: {FORM}")
            spec = importlib.util.spec_from_file_location("gendyn_own_network", path)
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # its dataclasses and pickles look the module up there
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, str(Path.cwd()))
            try:
                module = importlib.import_module(place)
            finally:
                sys.path.pop(0)
    except ModuleNotFoundError as error:
        raise UserError(f"no module named {error.name!r}, of {place}: {FORM}") from None
    found = getattr(module, function, None)
    if isinstance(found, nn.Module):
        return lambda: found
    if not callable(found):
        names = [name for name, one in vars(module).items() if callable(one) and not name.startswith("_")]
        raise unknown_name(f"function of {place}", function, names)
    given = inspect.signature(found).parameters.values()
    some = [one for one in given if one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)]
    if needed := [one.name for one in some if one.default is one.empty]:
        raise UserError(f"{function} of {place} needs arguments ({', '.join(needed)}): write a function without any")
    return found


def _made(make: Made, text: str) -> Any:
    """Call a user's function; whatever goes wrong becomes a one-line error."""
    try:
        with _bounded(), _offline():
            return make()
    except UserError:
        raise
    except _TooLongError:
        told = f"{text} has not given a network after {BUILD_SECONDS} s"
        raise UserError(f"{told}: let it build one and load weights, and train elsewhere") from None
    except (Exception, SystemExit) as error:
        chain: list[BaseException] = [error]
        while (before := chain[-1].__cause__ or chain[-1].__context__) is not None:
            chain.append(before)
        if any(isinstance(one, _NetworkError) for one in chain):
            raise UserError(f"{text} downloads something: fetch it first, and give weights with --weights") from None
        raise UserError(f"{text} raises {type(error).__name__}: {first_line(error)}") from None


@contextmanager
def _bounded() -> Iterator[None]:
    """Stop the code inside after a minute, if the system has alarms."""
    if not hasattr(signal, "SIGALRM") or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ring(*_: object) -> None:
        raise _TooLongError

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, BUILD_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _offline() -> Iterator[None]:
    """Refuse every connection to another machine inside the block."""

    def refuse(*_: object, **__: object) -> Any:
        raise _NetworkError("a report makes no request to another machine")

    names = ("connect", "connect_ex")
    before = {name: getattr(socket.socket, name) for name in names}, socket.getaddrinfo
    for name in names:
        setattr(socket.socket, name, refuse)
    socket.getaddrinfo = refuse
    try:
        yield
    finally:
        for name in names:
            setattr(socket.socket, name, before[0][name])
        socket.getaddrinfo = before[1]


def load_weights(model: nn.Module, path: Path) -> None:
    """Load weights into a network, from safetensors or from a file of `torch.save` that contains no code.

    Args:
        model: The network, changed in place.
        path: The file: a dict of tensors, at the top or under ``"state_dict"``, ``"model_state_dict"`` or
            ``"model"``.

    Raises:
        UserError: The file is missing, damaged, a pickle with code, or has the weights of another network.
    """
    if not path.is_file():
        raise UserError(f"{path} is no file: expected weights (.safetensors, or .pth of torch.save)")
    try:
        if path.suffix == ".safetensors":
            found = load_file(path)
        else:
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        told = f"{path} is a pickle with code in it, or damaged, and is not read"
        raise UserError(f"{told}: save the weights alone, torch.save(model.state_dict(), ...)") from None
    except Exception as error:  # of a text, unpickling may raise anything
        raise UserError(f"{path} cannot be read as weights: {first_line(error)}") from None
    for key in ("state_dict", "model_state_dict", "model"):
        found = found[key] if isinstance(found, dict) and isinstance(found.get(key), dict) else found
    own = model.state_dict()
    if not isinstance(found, dict) or not all(isinstance(value, Tensor) for value in found.values()):
        raise UserError(f"{path} holds a {type(found).__name__}, expected tensors by name (a state_dict)")
    for wrapper in ("_orig_mod.", "module.") * 2:  # of torch.compile and of data parallel training, in either order
        if found and all(name.startswith(wrapper) for name in found):
            found = {name.removeprefix(wrapper): value for name, value in found.items()}
    odd = [name for name in own if name not in found], [name for name in found if name not in own]
    shapes = [name for name in own if name in found and own[name].shape != found[name].shape]
    if any(odd) or shapes:
        told = f"{len(odd[0])} tensors are missing, {len(odd[1])} are not of it, {len(shapes)} have another shape"
        raise UserError(f"{path} has weights of another network: {told} (first: {(odd[0] + odd[1] + shapes)[0]})")
    kinds = [name for name in own if _kind(own[name]) != _kind(found[name])]
    if kinds:
        told = f"{kinds[0]} is {dtype_name(found[kinds[0]])} and {dtype_name(own[kinds[0]])} in the network"
        raise UserError(f"{path} has numbers of another kind: {told}")
    model.load_state_dict(found)


def _kind(value: Tensor) -> tuple[bool, bool]:
    return value.is_floating_point(), value.is_complex()


def own_data(text: str, *, root: str | None = None, size: int | None = None) -> ImageData:
    """Load the data that a text names.

    Args:
        text: A data set of `gendyn_lite.data.load`, a folder or an archive (zip, tar) with train/CLASS/* and
            test/CLASS/* (``folder:PATH@64`` for a size), or an .npz file with the arrays x, y, x_test, y_test.
        root: Folder of the prepared data.
        size: Side in pixels to which the images of a folder are resized and cropped.

    Raises:
        UserError: It is none of these, has no labels, or cannot be loaded.
    """
    check_whole("--size", size, most=MOST_SIDE, optional=True)
    if text.startswith(FOLDER) and (side := side_of(text)):
        if size not in (None, side):
            raise UserError(f"--size is {size} and {text} says {side}: leave one of them out")
        text, size = text.rpartition("@")[0], side
    path = named_path(text.removeprefix(FOLDER), what="--data")
    own = text.startswith(FOLDER) or path.is_dir() or path.suffix in ARCHIVES
    if size is not None and not own:
        raise UserError("--size is for a folder of images: leave it out")
    if path.suffix == ".npz":
        return _arrays(path)
    if own:
        return sources.load_images(path, name=text, root=data.data_root(root), size=size)
    return data.load(text, root=root)


def _arrays(path: Path) -> ImageData:
    names = ("x", "y", "x_test", "y_test")
    if not path.is_file():
        raise UserError(f"{path} is no file: expected arrays {', '.join(names)} of numpy.savez")
    try:
        with np.load(path, allow_pickle=False) as file:
            has = list(file.files)
            found = {name: file[name] for name in names if name in has}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise UserError(f"{path} cannot be read as arrays: {first_line(error)}") from None
    missing = [name for name in names if name not in found]
    if missing:
        raise UserError(f"{path} has {', '.join(has) or 'nothing'}, and no {missing[0]}: expected {', '.join(names)}")
    return data.from_arrays(found["x"], found["y"], test=(found["x_test"], found["y_test"]), name=path.stem)


def reported(asked: Namespace, *, say: Callable[[str], object]) -> Path:
    """Run ``gendyn report`` with its parsed arguments; `say` is called with a line for each lens."""
    check_whole("--classes", asked.classes, least=2, optional=True)
    found = own_data(asked.data, root=asked.root, size=asked.size)
    model = network(asked.model, num_classes=asked.classes or found.num_classes)
    if asked.weights:
        load_weights(model, asked.weights)
    fresh = ":" not in asked.model and not asked.weights
    options = {"out": asked.out, "name": asked.model, "standard": asked.standard, "fresh": fresh}
    cores = torch.get_num_threads()
    busy = hasattr(os, "getloadavg") and os.getloadavg()[0] > cores  # then several threads are slower than one
    with threads(1 if busy else cores):
        return report(model.to(choose_device(None)), found, **options, on_lens=lambda lens: say(lens.line))
