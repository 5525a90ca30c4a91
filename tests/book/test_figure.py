"""A chart is a figure: the same bytes every time, safe inside a page, with words for those who do not see it."""

from __future__ import annotations

import json
import re
from typing import Any

import altair as alt
import jsonschema
import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from gendyn_lite import book, charts
from gendyn_lite.charts.figure import embeddable, figure_html, read_spec
from tests.measures.networks import refused

TABLE = pd.DataFrame({"x": [0, 1, 2], "y": [0.1234567, 1 / 3, 2e-9], "kind": ["a", "b", "</script>"]})


def chart(**properties: Any) -> alt.Chart:
    charts.enable()
    text = {"title": "A title", "description": "What it shows.", **properties}
    pick = alt.selection_point(fields=["kind"])
    return alt.Chart(TABLE).mark_point().encode(x="x:Q", y="y:Q", color="kind:N").add_params(pick).properties(**text)


def plain() -> alt.Chart:
    return alt.Chart(TABLE).mark_point().encode(x="x:Q", y="y:Q")


def spec_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" class="gendyn-spec">(.*?)</script>', html, re.DOTALL)
    assert found
    return read_spec(found[1])


def test_the_same_chart_is_the_same_text_and_another_is_not() -> None:
    assert figure_html(chart().to_dict()) == figure_html(chart().to_dict())
    others = [chart(title="Another"), chart(description="Else."), charts.captioned(chart(), "b"), chart(height=10)]
    assert len({figure_html(other.to_dict()) for other in [chart(), *others]}) == 5


def test_two_charts_are_one_figure_with_a_heading_each() -> None:
    both = figure_html(charts.captioned(chart(), "first").to_dict(), charts.captioned(chart(), "second").to_dict())
    assert both.count("<figure") == 1
    shown = re.findall('(?:data-runs="|gendyn-runs">|gendyn-caption">)(.*?)["<]', both)
    own = "This page's own small run (the method, no evidence)"
    assert shown == ["published", "Published runs", "first", "own", own, "second"]


def test_the_specification_survives_the_round_trip() -> None:
    spec = spec_of(figure_html(chart().to_dict()))
    again = alt.Chart.from_dict(spec)
    assert json.loads(embeddable(again.to_dict()))["encoding"] == spec["encoding"]
    jsonschema.Draft7Validator(alt.load_schema()).validate({**spec, "title": "t"})
    assert spec["width"] == "container"


def test_automatic_names_start_from_one_whatever_was_drawn_before() -> None:
    def linked() -> str:
        return embeddable((chart().add_params(alt.selection_interval(encodings=["x"])) | plain()).to_dict())

    first = linked()
    plain().to_dict(), chart().to_dict()
    assert linked() == first


def test_every_use_of_an_automatic_name_follows_and_the_data_are_left_alone() -> None:
    spec = {"name": "view_4", "params": [{"name": "param_12"}, {"name": "param_3"}], "filter": "param_12 > param_3_x"}
    data = {"datasets": {"d": [{"name": "view_4"}]}, "width": "container"}
    renamed = {"name": "view_1", "params": [{"name": "param_1"}, {"name": "param_2"}], "filter": "param_1 > param_2_x"}
    assert read_spec(embeddable(spec | data)) == renamed | data


WORDLESS = [
    ({"title": ""}, "this chart has no title"),
    ({"title": alt.Title(text=" ")}, "has no title"),
    ({"description": ""}, "the chart 'A title' has no description"),
]


test_a_chart_without_words_is_refused = refused(
    {said: (charts.show, (chart(**properties),), {}, said) for properties, said in WORDLESS}
)


def test_text_is_escaped_and_nothing_ends_the_script() -> None:
    title, caption = "a < b & <img src=x>", "run `a<b`, <b>bold</b>"
    html = figure_html(charts.captioned(chart(title=title, description='say "5 < 6"'), caption).to_dict())
    assert "<img" not in html
    assert "run <code>a&lt;b</code>, &lt;b&gt;bold" in html
    assert 'aria-label="say &quot;5 &lt; 6&quot;"' in html
    assert spec_of(html)["datasets"] != {}
    assert "</script>" in str(spec_of(html)["datasets"].values())


def test_a_title_of_lines_and_a_subtitle_are_shown() -> None:
    title = alt.Title(text=["Two", "lines"], subtitle=["and", "more"])
    html = figure_html(chart(title=title).to_dict())
    assert "</span>Two lines</figcaption>" in html
    assert '<p class="gendyn-subtitle">and more</p>' in html


def test_nothing_but_the_live_script_names_another_host() -> None:
    html = figure_html(chart().to_dict())
    assert book.external_in(html) == []
    static = re.sub(r'<(style|script) data-gendyn="live">.*?</\1>', "", html, flags=re.DOTALL)
    assert re.findall(r"https?://[^\"]+", static) == [alt.SCHEMA_URL]


def test_only_a_single_view_takes_the_width_of_its_place_and_none_that_has_one() -> None:
    for composed in (chart() | plain(), chart() & plain(), chart().encode(column="kind:N"), chart().facet("kind:N")):
        assert "width" not in json.loads(embeddable(composed.to_dict()))
    assert json.loads(embeddable(chart(width=120).to_dict()))["width"] == 120


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False, width=64), max_size=8))
def test_numbers_keep_six_digits(values: list[float]) -> None:
    kept = json.loads(embeddable({"datasets": {"d": values}}))["datasets"]["d"]
    np.testing.assert_allclose(kept, values, rtol=5.1e-6, atol=1e-320)
    assert json.loads(embeddable({"datasets": {"d": kept}}))["datasets"]["d"] == kept


def test_the_notebook_shows_text_where_html_is_not_drawn() -> None:
    charts.enable()
    assert chart()._repr_mimebundle_(None, None)["text/plain"] == "Chart: A title"  # type: ignore[index]
