"""A folder of real images."""

from __future__ import annotations

from pathlib import Path

from PIL import Image
from sklearn.datasets import load_sample_images


def write(folder: Path, *, side: int) -> Path:
    """Windows of the two photographs that scikit-learn brings: six to train on and two to test with, of each."""
    for name, picture in zip(("china", "flower"), load_sample_images().images, strict=True):
        for number in range(8):
            place = folder / ("train" if number < 6 else "test") / name
            place.mkdir(parents=True, exist_ok=True)
            window = picture[100 : 100 + side, 60 * number : 60 * number + side]
            Image.fromarray(window).save(place / f"{number}.png")
    return folder
