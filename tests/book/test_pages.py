"""What a browser would fetch from elsewhere is found, and what it would not is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from gendyn_lite import book

FETCHED = [
    '<script src="https://example.org/a.js"></script>',
    "<SCRIPT async SRC=' //example.org/a.js'></SCRIPT>",
    '<link rel="stylesheet" href="http://example.org/a.css">',
    '<link rel="preload" as="font" href="https://example.org/a.woff2"/>',
    '<img alt="" src="https://example.org/a.png">',
    '<img alt="" src="a.png" srcset="a.png 1x, https://example.org/a.png 2x">',
    '<iframe src="https://example.org"></iframe>',
    '<video poster="https://example.org/a.png"></video>',
    '<style>@import "https://example.org/a.css";</style>',
    "<style>p{background:url(https://example.org/a.png)}</style>",
    "<p style=\"background:url('//example.org/a.png')\">",
    '<svg><image xlink:href="https://example.org/a.png"/></svg>',
    '<object data="https://example.org/a.svg"></object>',
    '<base href="https://example.org/">',
]
FREE = [
    '<a href="https://example.org">a link that a reader follows</a>',
    '<script src="_static/a.js"></script>',
    '<script>const text = "https://example.org/a.js";</script>',
    '<link rel="canonical" href="https://example.org/">',
    '<img alt="" src="data:image/png;base64,AAAA">',
    "<p>https://example.org/a.png</p>",
    "<style>p{background:url(a.png)}</style>",
]


@pytest.mark.parametrize("html", [*FETCHED, *FREE])
def test_what_is_loaded_from_elsewhere_is_found_and_nothing_else(html: str) -> None:
    assert len(book.external_in(html)) == (html in FETCHED)


def test_pages_and_style_sheets_of_a_folder_are_scanned(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "index.html").write_text('<script src="a.js"></script>')
    (tmp_path / "sub" / "a.html").write_text('<script src="https://example.org/a.js"></script>')
    (tmp_path / "sub" / "a.css").write_text("@import url('https://example.org/b.css');")
    assert book.external(tmp_path) == [
        "sub/a.css: https://example.org/b.css",
        "sub/a.html: https://example.org/a.js",
    ]
