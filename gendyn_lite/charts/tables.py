"""Tables for readers: claims with their verdicts, what has been run, and the claims of all papers together."""

from __future__ import annotations

import html
import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import altair as alt
import pandas as pd
from IPython.display import HTML

from gendyn_lite.charts.figure import PALETTE
from gendyn_lite.charts.html import COMPACT, html_table, interval, plain_table, signed, three_digits, two_lines
from gendyn_lite.charts.parts import Chart, layered, told
from gendyn_lite.claims import COMPARED
from gendyn_lite.claims.inference import MEANING, VERDICTS
from gendyn_lite.claims.sections import counts
from gendyn_lite.errors import unknown_name

# Signs beside the words, because verdicts must not be told by colour alone.
SIGNS = dict(zip(VERDICTS, "✓◐○✗?=–", strict=True))
VERBS = {"holds": "held", "holds, small": "held but small"}  # wording in counts; other verdicts are unchanged
MEANING_OF = "The first row that fits gives the verdict. Intervals are 95 % intervals of the mean over seeds."
AFTER = "after the fact"  # marks a verdict whose present criterion was written after the runs
SHADES = (*(PALETTE[number] for number in (3, 0, 1, 4)), "#8a8f98", PALETTE[2], PALETTE[5])
COLOURS = dict(zip(VERDICTS, SHADES, strict=True))


def claims_table(claims: pd.DataFrame, *, caption: str) -> HTML:
    """Write the claims network by network: the paper's value, ours with its interval, the verdict on this network.

    Args:
        claims: A table of `gendyn_lite.claims`.
        caption: What the table shows and where its numbers come from.
    """
    rows: list[Sequence[str] | str] = []
    for subject, own in claims.groupby("subject", sort=False):
        rows.append(html.escape(str(subject)))
        for row in own.to_dict("records"):
            ours = two_lines(interval(row["value"], row["low"], row["high"]), _counted(row))
            held = f"{_named(row['verdict'])}<br><small>holds if {html.escape(row['criterion'])}</small>"
            rows.append([html.escape(row["statement"]), two_lines(row["paper_value"], row["source"]), ours, held])
    return html_table(("Claim", "Paper", "Ours (95 % interval)", "Verdict"), rows, caption=caption)


def in_short(overall: pd.DataFrame, words: Mapping[str, str] | None = None) -> HTML:
    """Write claims and our verdicts, one line each, with a folded table of what the verdicts mean.

    Args:
        overall: A table of `gendyn_lite.claims.sections.statements`.
        words: Id of a claim → shorter words for it; only these are shown. Default: all primary claims in full.
    """
    plainer = words or {}
    rows = overall[overall["id"].isin(plainer)] if plainer else overall[overall["primary"]]
    late, linked = not rows["prior"].any(), rows["paper"].nunique() > 1
    cells = []
    for row in rows.to_dict("records"):
        said = html.escape(plainer.get(str(row["id"]), str(row["statement"])))
        cells.append([said + f" ({_chapter(row)})" * linked, _sign(row, after=not late)])
    caption = "Over all networks and data sets that we ran."
    if late:
        caption += f" Every verdict is {AFTER}: the criteria took their present form when these runs had been made."
    table = html_table(("The claim", "Our verdict"), cells, caption=caption).data
    return HTML(f"{table}{_fold('What a verdict means', meanings())}")


def answer(overall: pd.DataFrame, claims: pd.DataFrame, *names: str, folded: Sequence[str] = ()) -> HTML:
    """Write the verdict on some claims in a sentence each, with a folded table for each network and data set.

    Args:
        overall: A table of `gendyn_lite.claims.sections.statements`.
        claims: The table of `gendyn_lite.claims.sections.all_claims` that it was made from.
        *names: Ids of the claims.
        folded: Ids of further claims, whose verdicts are folded too.

    Raises:
        UserError: A claim is not in the table.
    """
    known, every = set(overall["id"]), [*names, *folded]
    for name in every:
        if name not in known:
            raise unknown_name("claim", name, known)
    said = overall[overall["id"].isin(every)].to_dict("records")
    own = claims[claims["id"].isin(every)]
    tests = f"network by network ({len(own)} test" + "s" * (len(own) != 1) + ")"
    words = f"How it was judged, {tests}"
    if more := [row for row in said if row["id"] in folded]:
        words = f"{len(more)} more verdict" + "s" * (len(more) != 1) + f", and how each was reached, {tests}"
    caption = "Each network and data set alone, without the correction for testing many."
    table = claims_table(own, caption=f"{'; '.join(row['statement'] for row in said)}. {caption}")
    first = _sentences([row for row in said if row["id"] not in folded])
    return HTML(f'<div class="gendyn-answer">{first}{_fold(words, table, said, before=_sentences(more))}</div>')


def _sentences(rows: Sequence[Mapping[Hashable, Any]]) -> str:
    """Write the verdicts on some claims, a paragraph each."""
    return "".join(f"<p>{_sentence(row)}</p>" for row in rows)


def _fold(
    words: str, table: HTML, held: Sequence[Mapping[Hashable, Any]] = (), *, before: str = "", where: bool = False
) -> str:
    """Fold a table under a summary line (`words`), after some HTML (`before`) and a list of how claims are judged."""
    each = "".join(f"<li>{_held_to(row, where=where)}</li>" for row in held)
    each = f"<ul>{each}</ul>" if each else ""
    return f'<details class="gendyn-fold"><summary>{words}</summary>{before}{each}{table.data}</details>'


def meanings() -> HTML:
    """Write the table of what each verdict means."""
    rows = [[_named(name), html.escape(words)] for name, words in MEANING.items()]
    return html_table(("Verdict", "Meaning"), rows, caption=MEANING_OF)


def _sentence(row: Mapping[Hashable, Any]) -> str:
    """Write the verdict on a claim, with the values that decided it and the threshold."""
    told = html.escape(row["source"])
    if row["networks"]:
        low, high = (signed(row[name]) for name in ("lowest", "highest"))
        over = "" if row["networks"] == 1 else f" over {row['networks']} networks and data sets"
        what = html.escape(row["statistic"]).rstrip(",")
        told += f": {what} {low if low == high else f'{low} to {high}'}{over}, {_counted(row)} or more each; "
        told += f"needed: {html.escape(row['needed'])}"
    if row["alone"] != row["verdict"]:
        told += f"; without the correction for testing many: {row['alone']}"
    return f"{_sign(row)} {html.escape(row['statement'])}. <small>{told}.</small>"


def _held_to(row: Mapping[Hashable, Any], *, where: bool) -> str:
    """Write how a claim is judged and what decided it; with `where`, for every claim that was run."""
    told = f"{html.escape(row['statement'])}: holds if {html.escape(row['criterion'])}"
    told += f", {'in the mean over networks' if row['pooled'] == 'mean' else 'on every network'}"
    told += f" ({COMPARED[row['compared']]})." if row["compared"] else "."
    if row["networks"] and (where or not math.isnan(row["low"])):
        found = interval(row["value"], row["low"], row["high"])
        one = row["pooled"] == "mean" or row["networks"] == 1
        told += f" {'Found' if one else 'Where it is least clear'}: {found}, {html.escape(str(row['subject']))}"
        told += f" ({row['networks']} networks and data sets)." if where and row["networks"] > 1 else "."
    elif where and row["others"]:
        tried = "the one network" if row["others"] == 1 else f"each of {row['others']} networks and data sets"
        told += f" Too few {row['unit']}s on {tried}."
    return told


def _sign(row: Mapping[Hashable, Any], *, after: bool = True) -> str:
    """Write a verdict over all networks with its sign, and whether its criterion came after the runs."""
    tested = row["verdict"] not in ("not run", "computed")
    late = AFTER if after and tested and not row["prior"] else ""
    notes = ", ".join(note for note in (row["why"], late) if note)
    return _named(row["verdict"]) + (f" <small>({notes})</small>" if notes else "")


def _named(verdict: str) -> str:
    """Write a verdict with its sign."""
    return f"<strong>{SIGNS[verdict]}&nbsp;{verdict}</strong>"


def runs_table(overview: pd.DataFrame, *, caption: str) -> HTML:
    """Write what has been run: a table of `gendyn_lite.results.overview`."""
    return plain_table(list(map(str, overview)), overview.itertuples(index=False), caption=caption)


def _counted(row: Mapping[Hashable, Any]) -> str:
    return f"{row['n_seeds']} {row['unit']}" + "s" * (row["n_seeds"] != 1)


def complexity_table(account: pd.DataFrame, *, caption: str) -> HTML:
    """Write complexity measures on true and random labels: value, bound, the actual gap, whether it separates them.

    Args:
        account: Rows of `gendyn_lite.measures.capacity.label_account`.
        caption: What the table shows and where its numbers come from.
    """
    heads = ("Measure", "Value (true / random)", "Bound of the gap", "Gap seen (true / random)", "Tells them apart?")
    rows = [
        (
            html.escape(row["measure"]),
            *(_pair(row[f"{name}_true"], row[f"{name}_random"]) for name in ("value", "bound", "gap")),
            f"<strong>{'yes' if row['separates'] else 'no'}</strong><br><small>{html.escape(row['why'])}</small>",
        )
        for row in account.to_dict("records")
    ]
    return html_table(heads, rows, caption=caption)


def _pair(true: float, random: float) -> str:
    """Write two numbers with three significant digits, or one if they are equal.

    >>> _pair(1234567.0, 1234567.0), _pair(0.093, 0.9)
    ('1,230,000', '0.093 / 0.9')
    """
    texts = [three_digits(value) for value in (true, random)]
    return texts[0] if texts[0] == texts[1] else " / ".join(texts)


def verdicts(overall: pd.DataFrame) -> Chart:
    """Draw the number of claims of each paper by verdict; the legend picks a verdict.

    Args:
        overall: A table of `gendyn_lite.claims.sections.statements`.
    """
    found = overall.groupby(["paper", "verdict"], sort=False).size().rename("claims").reset_index()
    signs = {verdict: sign for verdict, sign in SIGNS.items() if verdict in set(found["verdict"])}
    names = [f"{sign} {verdict}" for verdict, sign in signs.items()]
    found["verdict"] = found["verdict"].map(dict(zip(signs, names, strict=True)))
    found["order"] = found["verdict"].map(names.index)
    scale = alt.Scale(domain=names, range=[COLOURS[verdict] for verdict in signs])
    colour = alt.Color("verdict:N", title=None, scale=scale, sort=names)
    picked = alt.selection_point(name="picked", fields=["verdict"], bind="legend")
    papers = list(overall["paper"].unique())
    x = alt.X("claims:Q", title="claims", stack="zero")
    y = alt.Y("paper:N", title=None, sort=papers, axis=alt.Axis(labelLimit=190))
    faded, tip = alt.condition(picked, alt.value(1.0), alt.value(0.15)), ["paper:N", "verdict:N", "claims:Q"]
    bars = alt.Chart(found).mark_bar(size=24).add_params(picked)
    bars = bars.encode(x=x, y=y, order="order:Q", color=colour, opacity=faded, tooltip=tip)
    words = told(found, "{paper}, {verdict}: {claims}")
    about = f"Number of claims by verdict and paper. {words}."
    return layered([bars], "Verdicts by paper", "Pick a verdict in the legend.", about, height=44 * len(papers))


def summary(overall: pd.DataFrame) -> HTML:
    """Summarize the verdicts on the papers' own claims in a sentence, and in one for each paper.

    Args:
        overall: A table of `gendyn_lite.claims.sections.statements`.
    """
    own = overall[overall["primary"]]
    papers = own.groupby("paper", sort=False)
    each = "".join(f"<li>{html.escape(str(paper))}: {counted(rows)}</li>" for paper, rows in papers)
    return HTML(f"<p><strong>{counted(own)}</strong></p><ul>{each}</ul>")


def papers_tables(overall: pd.DataFrame, claims: pd.DataFrame) -> HTML:
    """Write the claims of each paper, a row each, with our additional claims and every network folded below.

    Args:
        overall: A table of `gendyn_lite.claims.sections.statements`.
        claims: The table of `gendyn_lite.claims.sections.all_claims` that it was made from.
    """
    parts, links = [], []
    for number, (paper, rows) in enumerate(overall.groupby("paper", sort=False), 1):
        tests = claims[claims["paper"] == paper]
        words = f"The criterion of each claim, and its result on every network and data set ({len(tests)} tests)"
        own, ours = (rows[rows["primary"] == primary] for primary in (True, False))
        links.append(f'<a href="#claims-{number}">{html.escape(str(paper))}</a>')
        parts.append(f'<h3 id="claims-{number}">{html.escape(str(paper))}</h3>')
        parts.append(_statements_table(own, caption=counted(own), label=f"{paper}: what it claims."))
        if len(ours):
            table = _statements_table(ours, caption=f"{paper}: what we asked beside it.")
            parts.append(_fold(f"What we asked beside it. {counted(ours)}", HTML(table)))
        table = claims_table(tests, caption=f"{paper}. {words}, each without the correction.")
        parts.append(_fold(words, table, rows.to_dict("records"), where=True))
    return HTML(f"{COMPACT}<p>{' · '.join(links)}</p>{''.join(parts)}")


def counted(overall: pd.DataFrame) -> str:
    """Say how many claims got which verdict, and how many the correction for multiple testing changed.

    Args:
        overall: Rows of `gendyn_lite.claims.sections.statements`.

    >>> counted(pd.DataFrame({"verdict": ["holds", "undecided"], "alone": ["holds", "holds"]}))
    'Of 2 claims, 1 held; 1 undecided. Without the correction for testing many, 2 would hold.'
    """
    found = "; ".join(f"{number} {VERBS.get(name, name)}" for name, number in counts(overall).items())
    before, after = (int((overall[column] == "holds").sum()) for column in ("alone", "verdict"))
    lost = f" Without the correction for testing many, {before} would hold." if before > after else ""
    return f"Of {len(overall)} claims, {found}.{lost}"


def _statements_table(overall: pd.DataFrame, *, caption: str, label: str = "") -> str:
    """Write each claim of a paper over all networks: its verdict, and the value that is furthest from holding."""
    heads = ("Claim", "Paper", "Ours (95 % interval)", "Verdict")
    late = not overall["prior"].any()
    rows = [_statement(row, after=not late) for row in overall.to_dict("records")]
    table = html_table(heads, rows, caption=caption + f" All {AFTER}." * late, label=label)
    return f'<div class="gendyn-claims">{table.data}</div>'


def _statement(row: Mapping[Hashable, Any], *, after: bool) -> list[str]:
    """Write the cells of a claim over all networks."""
    where = html.escape(row["source"]).replace(". ", ".&nbsp;") + (f"; {_chapter(row)}" if row["chapter"] else "")
    ours = "– (values&nbsp;below)" if row["others"] else "–"
    if row["networks"]:  # a line may break before the interval but not inside it
        ours = interval(row["value"], row["low"], row["high"]).replace(" ", "&nbsp;").replace("&nbsp;", " ", 1)
    named = f"{html.escape(row['statement'])} <small>·&nbsp;{where}</small>"
    return [named, html.escape(row["paper_value"]), ours, _sign(row, after=after)]


def _chapter(row: Mapping[Hashable, Any]) -> str:
    """Write a link to the section of the chapter that shows a claim."""
    number = row.get("number", str(row["chapter"])[1:2])  # that of its heading in the book, where it is known
    return f'<a href="{row["chapter"]}.html#{row["section"]}">chapter&nbsp;{number}</a>'
