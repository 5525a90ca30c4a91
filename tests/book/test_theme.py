"""The palette reads on light and dark pages and without seeing all colours; both are computed, not judged by eye."""

from __future__ import annotations

import itertools

import altair as alt
import numpy as np
import pytest

from gendyn_lite.charts.figure import DASHES, PALETTE, SHAPES, TEXT, theme

PAGES = {"light": "#ffffff", "dark": "#121212"}
# Machado, Oliveira and Fernandes (2009), severity 1, on linear RGB.
SIGHT = {
    "full": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> np.ndarray:
    """Linear RGB of #rrggbb."""
    values = np.array([int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """Contrast ratio of WCAG 2."""
    low, high = sorted(float(linear(colour) @ TO_XYZ[1]) for colour in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(colour: str, sight: str) -> np.ndarray:
    """CIELAB of a colour as it is seen."""
    xyz = TO_XYZ @ np.clip(np.array(SIGHT[sight]) @ linear(colour), 0, 1) / np.array([0.9505, 1, 1.089])
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("colour", PALETTE)
def test_every_colour_stands_out_from_the_page(colour: str, page: str) -> None:
    assert contrast(colour, PAGES[page]) >= 3


@pytest.mark.parametrize("sight", SIGHT)
def test_any_two_colours_are_distinct(sight: str) -> None:
    distances = [np.linalg.norm(lab(a, sight) - lab(b, sight)) for a, b in itertools.combinations(PALETTE, 2)]
    assert min(distances) >= 20


def test_every_colour_has_a_dash_and_a_shape() -> None:
    assert len(PALETTE) == len(DASHES) == len(SHAPES) == len({tuple(dash) for dash in DASHES}) == len(set(SHAPES))


def test_the_theme_is_valid_and_takes_its_text_colour_from_the_page() -> None:
    with alt.theme.enable("default"):
        spec = alt.Chart().mark_point().to_dict()
    alt.Chart.from_dict({**spec, **theme()}, validate=True)
    config = theme()["config"]
    texts = [config[guide]["labelColor"] for guide in ("axis", "legend", "header")] + [config["text"]["color"]]
    assert set(texts) == {TEXT} == {"currentColor"}
