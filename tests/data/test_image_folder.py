"""A folder of one's own images: what is read, in which order, and what each fault is called."""

from __future__ import annotations

import io
import os

import numpy as np
import pytest
import torch
from PIL import Image

from data_scripts.cli import prepare
from gendyn_lite import data, decode
from gendyn_lite.data import image_folder, loading, sources
from gendyn_lite.errors import UserError
from gendyn_lite.notebooks.chapters import kernel_environment
from tests.measures.networks import refused

from . import trees


def loaded_from(folder, content):
    """The data of a new folder with these files."""
    return data.load(f"folder:{trees.write(folder, content)}")


def seen(raw, mode):
    """An image's pixels as Pillow sees them, on white where they are transparent, [C, H, W]."""
    image = Image.open(io.BytesIO(raw))
    pixels = np.asarray(image.convert("RGBA")).astype(float)
    alpha = pixels[..., 3:] / 255
    laid = (pixels[..., :3] * alpha + 255 * (1 - alpha)).round().astype(np.uint8)
    image = Image.fromarray(laid) if (alpha < 1).any() else image
    return np.atleast_3d(np.asarray(image.convert(mode))).transpose(2, 0, 1)


def plain(mode, kind="PNG", **options):
    """An encoded picture in a mode."""
    picture = trees.picture(mode=mode if mode in ("L", "RGB", "RGBA") else "RGB")
    if mode == "LA":
        picture.putalpha(trees.picture(seed=1, mode="L"))
    image = picture.quantize(8) if mode == "P" else picture.convert(mode)
    return trees.encoded(image, kind, **options)


FIRST = trees.picture(mode="L").getpixel((0, 0))
TWO = {"save_all": True, "append_images": [trees.picture(seed=2)]}
ENCODED = {  # what is loaded as grey, then what is loaded in colour
    "L": [plain("L"), plain("L", "JPEG"), plain("1"), plain("LA"), plain("L", transparency=FIRST),
          plain("L", "TIFF", **TWO)],
    "RGB": [plain("RGB"), plain("RGB", "JPEG"), plain("RGBA"), plain("P"), plain("P", "GIF"), plain("CMYK", "JPEG"),
            plain("P", transparency=0), plain("P", "GIF", transparency=0, **TWO), plain("RGBA", "WEBP", lossless=True),
            plain("RGB", "MPO", **TWO)],
}  # fmt: skip


@pytest.mark.parametrize("mode", ENCODED)
def test_images_are_those_that_pillow_sees(tmp_path, mode):
    """Whatever their mode, as torchvision does; among images in colour, a grey one has three equal channels."""
    images = [raw for kind in ENCODED for raw in ENCODED[kind] if mode == "RGB" or kind == "L"]
    content = trees.files(mode=mode) | {f"train/cat/x{i}.png": raw for i, raw in enumerate(images)}
    loaded = data.load(f"folder:{trees.write(tmp_path / 'pets', content)}", root=tmp_path / "data")
    for split, part in (("train", loaded.train), ("test", loaded.test)):
        names = sorted(name for name in content if name.startswith(split))
        assert part.y.tolist() == [("cat", "dog").index(name.split("/")[1]) for name in names]
        for name, image in zip(names, part.x, strict=True):  # the slow twin
            assert np.array_equal(image.numpy(), seen(content[name], mode))
    assert loaded.class_names == ("cat", "dog")
    assert loaded.in_shape == ((3, 5, 6) if mode == "RGB" else (1, 5, 6))
    assert loaded.description == "own images (pets)"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("grey", ["ant", "zebra"], ids=["the first", "the last"])
def test_one_grey_class_among_colours_is_loaded_in_colour(tmp_path, grey):
    content = trees.files(mode="RGB") | trees.files(classes=(grey,), mode="L")
    assert loaded_from(tmp_path, content).in_shape == (3, 5, 6)


def test_fingerprint_knows_the_pixels_and_not_the_place(tmp_path):
    content = trees.files()
    here, there = (loaded_from(tmp_path / name, content) for name in ("a", "b"))
    assert here.fingerprint == there.fingerprint
    content["test/dog/0001.png"] = trees.encoded(trees.picture(seed=9))
    assert loaded_from(tmp_path / "c", content).fingerprint != here.fingerprint


def test_prepared_form_is_the_same_data_and_notices_changes(tmp_path):
    folder, root = trees.write(tmp_path / "pets", trees.files()), tmp_path / "data"
    direct = data.load(f"folder:{folder}", root=root)
    prepare(f"folder:{folder}", root)
    mapped = data.load(f"folder:{folder}", root=root)
    for name in ("fingerprint", "class_names", "mean", "std", "description", "num_classes"):
        assert getattr(mapped, name) == getattr(direct, name)
    assert torch.equal(mapped.train.x, direct.train.x)
    assert torch.equal(mapped.test.y, direct.test.y)
    trees.write(folder, {"train/cat/new.png": trees.encoded(trees.picture(seed=5))})
    changed = r"pets has changed since it was prepared: run `gendyn data folder:.*pets` again"
    with pytest.raises(UserError, match=changed):
        data.load(f"folder:{folder}", root=root)
    prepare(f"folder:{folder}", root)
    assert len(data.load(f"folder:{folder}", root=root).train.y) == 7


def test_names_with_spaces_and_unicode_and_other_files(tmp_path):
    content = trees.files(classes=("chat noir", "犬 🐕", "café"))
    others = ("train/chat noir/.hidden.png", "README.txt", "train/__MACOSX/a.png", "train/x.txt")
    trees.write(tmp_path / "my pets ü", dict.fromkeys(others, b"x"))
    (tmp_path / "my pets ü" / "train" / "notes.txt").symlink_to("/dev/zero")
    loaded = loaded_from(tmp_path / "my pets ü", content)
    assert loaded.class_names == ("café", "chat noir", "犬 🐕")
    assert len(loaded.train.y) == 9


def test_decomposed_names_are_one_class_folders_above_are_stripped_and_val_stands_in_for_test():
    names = [f"set/{split}/{name}/sub/1.png" for split in ("train", "val") for name in ("b", "café", "cafe\u0301")]
    tree = image_folder.listing(names, where="x")
    assert tree.class_names == ("b", "café")
    assert tree.files["test"] == [name for name in names if "val" in name][:1] + sorted(names[4:])
    assert tree.labels["test"].tolist() == [0, 1, 1]


def test_links_are_followed_and_loops_are_not(tmp_path):
    folder = trees.write(tmp_path / "pets", trees.files())
    trees.write(tmp_path / "elsewhere", {"1.png": trees.encoded(trees.picture())})
    for split in ("train", "test"):
        os.symlink(tmp_path / "elsewhere", folder / split / "linked", target_is_directory=True)
        os.symlink(folder / split, folder / split / "cat" / "loop", target_is_directory=True)
    assert data.load(f"folder:{folder}").class_names == ("cat", "dog", "linked")


def test_the_cameras_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to view
    content = trees.files(size=(5, 6), extension="jpg")
    content["train/cat/0000.jpg"] = trees.encoded(trees.picture(size=(6, 5)), "JPEG", exif=exif, quality=95)
    upright = data.load(f"folder:{trees.write(tmp_path, content)}").train.x[0]
    plain = Image.open(io.BytesIO(content["train/cat/0000.jpg"])).transpose(Image.Transpose.ROTATE_270)
    assert np.array_equal(upright.numpy(), np.asarray(plain).transpose(2, 0, 1))


def test_size_makes_images_of_different_sizes_one(tmp_path):
    content = trees.files(size=(40, 20)) | trees.files(("long",), size=(16, 64)) | trees.files(("small",), size=(4, 4))
    folder = trees.write(tmp_path / "pets", content)
    prepare(f"folder:{folder}", tmp_path / "data", size=8)
    loaded = data.load(f"folder:{folder}", root=tmp_path / "data")
    assert loaded.in_shape == (3, 8, 8)
    assert loaded.description == "own images (pets), 8x8"
    image = Image.open(io.BytesIO(content["train/cat/0000.png"])).resize((16, 8), Image.Resampling.BILINEAR)
    expected = np.asarray(image)[:, 4:12].transpose(2, 0, 1)
    assert np.array_equal(loaded.train.x[loaded.class_names.index("cat") * 3].numpy(), expected)


PNG = trees.encoded(trees.picture())
JPEG = trees.encoded(trees.picture(size=(40, 40)), "JPEG")
DEEP = trees.encoded(Image.fromarray(np.arange(30, dtype=np.uint16).reshape(5, 6)))
LARGE = trees.encoded(Image.new("1", (10_000, 10_000)))


FIRST, LAST = "train/cat/0001.png", "test/dog/0001.png"
OTHER_SIZE = trees.encoded(trees.picture(size=(7, 5)))
FAULTS = {
    "zero bytes": (FIRST, b"", r"train/cat/0001\.png is empty \(0 bytes\)"),
    "cut PNG": (FIRST, PNG[:-30], r"train/cat/0001\.png is truncated or damaged"),
    "cut JPEG": (FIRST, JPEG[:-300], r"train/cat/0001\.png is truncated or damaged"),
    "text": (LAST, b"hello", r"test/dog/0001\.png cannot be read as an image"),
    "16 bits": (FIRST, DEEP, "has more than 8 bits"),
    "too many pixels": (FIRST, LARGE, r"0001\.png has 10000x10000 pixels, expected at most 89,478,485"),
    "another size": (LAST, OTHER_SIZE, r"test/dog/0001\.png has 5x7 pixels, expected 5x6 .* --size N"),
    "no class folder": ("train/one.png", PNG, r"train/one\.png is not in a class folder"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("through", ["load", "prepare"])
def test_a_fault_is_named_and_nothing_is_cached(tmp_path, fault, through):
    name, raw, message = FAULTS[fault]
    folder, root = trees.write(tmp_path / "pets", trees.files() | {name: raw}), tmp_path / "data"
    with pytest.raises(UserError, match=message):
        data.load(f"folder:{folder}", root=root) if through == "load" else prepare(f"folder:{folder}", root)
    assert not root.exists() or [path.suffix for path in root.iterdir()] == [".lock"]


WITHOUT = [
    ("", r"has no images in train/: expected train/CLASS/\* and test/CLASS/\*"),
    ("1.png", "has no images in train/"),
    ("train/a/1.png train/b/1.png valid/a/1.png", r"no images in test/: .*; rename valid/ to test/"),
    ("Train/a/1.png Test/a/1.png", r"no images in train/: .*; rename Train/ to train/"),
    ("cat/1.png dog/1.gif", r"no images in train/: .*; found cat/, dog/: if these are classes, put them there"),
    ("test/a/1.png", "has no images in train/"),
    ("train/a/1 test/a/2", r"no images in train/: .*; 2 files have no suffix \(such as train/a/1\): name them"),
    ("train/a/1.png train/b/1.png", "has no images in test/"),
    ("train/a/1.png test/a/1.png", r"only one class \(a\): expected at least"),
    ("train/a/1.png train/b/1.png test/a/1.png", "class 'b' is in train/ but has no images in test/"),
    ("train/a/1.png test/a/1.png test/b/1.png", "class 'b' is in test/ but has no images in train/"),
    ("train/a/1.png test/caf\udce9/1.png", "is not valid UTF-8: rename it"),
]
test_a_folder_without_its_classes_is_named = refused(
    {ascii(names): (image_folder.listing, (names.split(),), {"where": "pets"}, said) for names, said in WITHOUT}
)


def test_what_is_left_out_and_what_is_there_twice_is_told(tmp_path):
    content = trees.files() | {"train/cat/notes.txt": b"x", "extra/1.png": PNG, "train/dog/photo": PNG, ".git/a": b""}
    content |= {f"train/cat/{i}.png": raw for i, raw in enumerate(ENCODED["L"] + ENCODED["RGB"])}
    opaque = trees.picture()
    opaque.putalpha(255)
    content["train/cat/opaque.png"] = trees.encoded(opaque)
    content["test/dog/0000.png"] = content["train/dog/0001.png"]
    folder = trees.write(tmp_path / "pets", content)
    with pytest.warns(UserWarning) as told:
        data.load(f"folder:{folder}")
    words = [str(one.message) for one in told]
    left = "pets: 3 files are left out, as they are not images or outside of train/ and test/: train/cat/notes.txt, "
    assert len(words) == 2 and left in words[0]
    assert words[0].endswith("first is used: 2; images with transparency, laid on white: 6")
    assert "1 of the test images are among the training images" in words[1]


def test_every_image_that_pillow_opens_is_one_and_large_ones_are_offered_a_size(tmp_path):
    files = trees.files(classes=("cat", "dog"), size=(1100, 20), extension="jpg")
    large = {name.replace(".jpg", ".jfif"): content for name, content in files.items()}
    with pytest.warns(UserWarning, match=r"have 20x1100 pixels: `gendyn data folder:.* --size 224` makes them"):
        assert len(data.load(f"folder:{trees.write(tmp_path / 'pets', large)}").train.y) == 6
    assert not {".eps", ".pdf", ".mpg", ".h5", ""} & set(image_folder.extensions())


def test_an_archive_is_loaded_as_its_folder_is_and_once_while_it_stays_as_it_is(tmp_path, monkeypatch):
    files = trees.files()
    folder, archive = trees.write(tmp_path / "pets", files), trees.zipped(tmp_path / "pets.zip", files)
    unpacked, packed = (data.load(f"folder:{path}") for path in (folder, archive))
    assert packed.fingerprint == unpacked.fingerprint and packed.class_names == unpacked.class_names
    assert loading.folder_sizes(f"folder:{archive}") == loading.folder_sizes(f"folder:{folder}")
    packed.train.x.zero_()  # by somebody who has it
    with monkeypatch.context() as patch:
        patch.setattr(sources, "decode_splits", None)
        assert torch.equal(data.load(f"folder:{archive}").train.x, unpacked.train.x)
    trees.zipped(archive, trees.files(classes=("cat", "owl")))
    assert data.load(f"folder:{archive}").class_names == ("cat", "owl")
    prepare(f"folder:{archive}", tmp_path / "data")
    assert data.load(f"folder:{archive}", root=tmp_path / "data").name == f"folder:{archive}"
    archive.write_bytes(b"PK")
    with pytest.raises(UserError, match=r"pets\.zip has changed since it was prepared"):
        data.load(f"folder:{archive}", root=tmp_path / "data")
    with pytest.raises(UserError, match=r"pets\.zip cannot be read as an archive, or is damaged"):
        data.load(f"folder:{archive}")


def test_a_relative_folder_is_the_one_where_the_command_was_typed(tmp_path, monkeypatch):
    trees.write(tmp_path / "typed" / "pics", trees.files(classes=("cat", "dog")))
    trees.write(tmp_path / "chapters" / "own", trees.files(classes=("owl", "yak")))
    (tmp_path / "chapters" / "pics").mkdir()
    monkeypatch.chdir(tmp_path / "typed")
    there = kernel_environment()[image_folder.TYPED_IN]
    monkeypatch.chdir(tmp_path / "chapters")
    monkeypatch.setenv(image_folder.TYPED_IN, there)
    found = data.load("folder:pics")
    assert (found.name, found.class_names) == ("folder:pics", ("cat", "dog"))  # the name, and so a run's key, stays
    assert data.load("folder:own").class_names == ("owl", "yak")
    for name, where in (("none", f" in {tmp_path / 'typed'}"), (tmp_path / "none", "")):
        with pytest.raises(UserError, match=rf"^{name} is not a folder{where}: expected train/CLASS"):
            data.load(f"folder:{name}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
@pytest.mark.parametrize("target", ["", "/dev/zero", "gone", "odd.png"], ids=["pipe", "endless", "broken", "circle"])
def test_an_image_that_is_no_plain_file_is_named_and_not_read(tmp_path, target):
    folder = trees.write(tmp_path / "pets", trees.files())
    odd = folder / "train" / "cat" / "odd.png"
    odd.symlink_to(target) if target else os.mkfifo(odd)
    message = r"pets/train/cat/odd\.png(: its symbolic links form a loop| is not a regular file, or is a broken link)"
    for use in (data.load, lambda name: prepare(name, tmp_path / "data"), lambda _: image_folder.stamp(folder)):
        with pytest.raises(UserError, match=message):
            use(f"folder:{folder}")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes that have a name")
@pytest.mark.parametrize("size", [-1, 10**12], ids=["folder", "archive"])
def test_a_huge_file_is_no_image_and_neither_is_one_that_has_become_a_pipe(tmp_path, size):
    path = tmp_path / "1.png"
    path.touch()
    os.truncate(path, 10**12)  # a hole: it takes no place
    for said in (r"1,000,000,000,000 bytes, expected at most 536,870,912: make it smaller", "is not a regular file"):
        with pytest.raises(UserError, match=said):
            decode.read(decode.Item(str(path), "1.png", 0, size))
        path.unlink()
        os.mkfifo(path)


def test_an_image_that_would_become_too_large_is_refused(tmp_path):
    content = trees.files() | {"train/cat/0000.png": trees.encoded(trees.picture(size=(1000, 1)))}
    with pytest.raises(UserError, match=r"0000\.png, its shorter side resized to 500, has 500000x500 pixels, expected"):
        prepare("folder:pets", tmp_path / "data", source=trees.write(tmp_path / "pets", content), size=500)
