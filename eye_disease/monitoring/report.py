"""The report on a judged window: one HTML page that needs nothing else, and its plots as PNGs."""

import csv
import io
from collections.abc import Iterable
from html import escape

from eye_disease.common.text import clean
from eye_disease.monitoring.judged_window import Findings
from eye_disease.monitoring.plots import Plot, make_plots
from eye_disease.monitoring.publish import window_metrics
from eye_disease.verdict.check import Check

REPORT_FILE = "report.html"
CHECKS_FILE = "checks.csv"
"""Every comparison of the window with its limit, which MLflow's pages show as a table."""
_CHECK_COLUMNS = ("level", "site", "stream", "statistic", "value", "limit", "of limit", "p-value", "PSI", "n")
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 60rem; padding: 1rem; color: #1c1c1c; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.4rem; line-height: 1.25; margin: .2rem 0; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 1.5rem 0 .3rem; } summary h2 { display: inline; }
.status { display: inline-block; padding: .1rem .7rem; border-radius: 1rem; color: #fff; font-weight: 600; }
.ok { background: #1b7f3b; } .warning { background: #8a5a00; } .drift { background: #b3261e; }
.insufficient_data { background: #5f6368; }
.said { font-size: 1.1rem; } .small { color: #5f6368; font-size: .9rem; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem; }
figure { margin: 0; min-width: 0; } figure svg { width: 100%; height: auto; display: block; }
figcaption { font-weight: 600; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .9rem; }
th, td { text-align: left; padding: .2rem .7rem .2rem 0; border-bottom: 1px solid #e0e0e0; } td.n, th.n { text-align: right; }
li, .said { overflow-wrap: anywhere; }
"""
_FORMULA = ("=", "+", "-")
"""What a spreadsheet would compute, where a client's site begins with it; an at sign is no more there, see `clean`."""
_UNITS = {"session_avg_inference_time_ms": "ms", "health_check_response_time_ms": "ms", "model_load_time_seconds": "s"}


def make_report(findings: Findings) -> dict[str, bytes]:
    """Artifact path -> content: REPORT_FILE, CHECKS_FILE, `plots/<name>.png`; that of an alarm also under a name that stays."""
    plots = make_plots(findings)
    page = _page(findings, plots).encode()
    raised = {f"raised/window-{findings.number:06d}.html": page} if findings.event == "raise" else {}
    return {
        REPORT_FILE: page,
        CHECKS_FILE: _csv(findings.verdict.checks),
        **raised,
        **{f"plots/{plot.name}.png": plot.png() for plot in plots},
    }


def _page(findings: Findings, plots: list[Plot]) -> str:
    verdict, name = findings.verdict, f"{clean(findings.model)} version {clean(findings.version)}"
    alarm = "An alarm is raised." if findings.alarm.raised else "No alarm is raised."
    reference = f"Reference: {clean(verdict.reference)}." if verdict.reference else "No reference."
    figures = "".join(f"<figure><figcaption>{escape(plot.title)}</figcaption>{plot.svg()}</figure>" for plot in plots)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(f"{name}: {verdict.status}")}</title>
<style>{_STYLE}</style>
</head>
<body>
<h1>{escape(name)} <span class="status {verdict.status}">{verdict.status}</span></h1>
<p class="said">{escape(findings.problem)} {escape(findings.action)}</p>
<p class="small">{escape(findings.span)}; {verdict.n:,} answers, {verdict.failed:,} errors. {escape(reference)} {alarm}</p>
{_list(findings.notes)}
{_reasons(verdict.reasons)}
<div class="plots">{figures}</div>
<h2>Figures</h2>
{_figures(findings)}
<details><summary><h2>All checks</h2></summary>{_table(_CHECK_COLUMNS, _check_rows(verdict.checks))}</details>
<p class="small">For research. Not a medical device, and not for diagnosis. This page holds statistics of photos only,
nothing of any patient. The estimated accuracy trusts the confidence: it cannot see a model that is confidently wrong.</p>
</body>
</html>
"""


def _reasons(reasons: tuple[Check, ...]) -> str:
    return f"<h2>Why</h2>{_list(f'{check.level}: {check}' for check in reasons)}" if reasons else ""


def _list(sentences: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in sentences)
    return f"<ul>{items}</ul>" if items else ""


def _figures(findings: Findings) -> str:
    shown = {
        name: value for name, value in window_metrics(findings).items() if value is not None and not name.startswith("drift/")
    }
    rows = [(name.replace("_", " "), f"{value:,.4g} {_UNITS.get(name, '')}".strip()) for name, value in shown.items()]
    return _table(("figure", "value"), rows)


def _csv(checks: tuple[Check, ...]) -> bytes:
    text = io.StringIO()
    rows = [[f" {cell}" if cell.startswith(_FORMULA) else cell for cell in row] for row in _check_rows(checks)]
    csv.writer(text, lineterminator="\n").writerows([_CHECK_COLUMNS, *rows])
    return text.getvalue().encode()


def _check_rows(checks: tuple[Check, ...]) -> list[tuple[str, ...]]:
    """In the order of _CHECK_COLUMNS; `of limit`: 1 and more is beyond it."""
    ordered = sorted(checks, key=lambda check: (check.site is not None, check.site or "", check.source))
    return [
        (
            check.level,
            _of(check),
            clean(check.stream),
            check.statistic,
            f"{check.value:.4g}",
            f"{check.limit:.4g}",
            f"{check.excess:.3g}",
            "" if check.p_value is None else f"{check.p_value:.2g}",
            "" if check.psi is None else f"{check.psi:.3g}",
            str(check.n),
        )
        for check in ordered
    ]


def _of(check: Check) -> str:
    """Whose values a check is about."""
    if check.source == "lasting":
        return f"all, newest {check.windows} windows"
    return "all" if check.site is None else clean(check.site) or "(none)"


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    top = "".join(f"<th>{name}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
