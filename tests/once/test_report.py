"""The report: what it must hold, that it needs nothing else, and that no input can break it."""

import csv
import html.parser
import io
import json
import math
import pathlib
import re
import shutil
import subprocess
import xml.etree.ElementTree

import pytest
from rich.console import Console

import kerasnorm
from search import answer as answers
from search import cli, report
from search.errors import Interrupted
from search.report import live, plots, tables, terminal, usage
from search_rows import manifest, run_rows, search
from small_search import build, short_search

HOSTILE = " $a_1$ </script><script>alert(1)</script><img src=x> & \"x\" 'y' \\input{z} | `c` % {"
# Elements without an end tag.
VOID = {"meta", "link", "img", "br", "hr", "input"}


def written(out, *parts):
    """Write a report and give the folder."""
    trial_rows, runs, found = parts
    report.write(out, trial_rows, runs, found, answers.conclude(trial_rows, runs, found))
    return out


def program(*names):
    """A program that only the slow tests need."""
    found = next(filter(None, map(shutil.which, names)), None)
    assert found, f"{names[0]} is not installed; CONTRIBUTING.md says what make test-full needs."
    return found


@pytest.fixture(scope="module")
def rows():
    return search()


@pytest.fixture(scope="module")
def folder(rows, tmp_path_factory):
    """The report of a search in which ILM is better."""
    return written(tmp_path_factory.mktemp("report"), *rows)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """The report of a search whose words are not to be trusted."""
    trial_rows, runs, found = search(extra_words=HOSTILE)
    found["data"]["name"] = found["objective"] = found["architecture"]["name"] = HOSTILE
    found["command"] = ["kerasnorm-search", "--arch", HOSTILE]
    trial_rows[0]["values"][HOSTILE] = HOSTILE
    trial_rows[7]["reason"] = trial_rows[7]["traceback"] = HOSTILE
    return written(tmp_path_factory.mktemp("hostile"), trial_rows, runs, found)


class Page(html.parser.HTMLParser):
    """A page as a browser sees it: its elements, and the text outside of scripts and styles."""

    def __init__(self, path):
        super().__init__()
        self.open, self.elements, self.texts, self.scripts, self.styles = [], [], [], [], []
        self.problems = []
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        self.problems += [f"<{tag}> is not closed" for tag in self.open]

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data):
        inside = self.open[-1] if self.open else ""
        {"script": self.scripts, "style": self.styles}.get(inside, self.texts).append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module", params=["folder", "hostile"])
def page(request):
    return Page(request.getfixturevalue(request.param) / "report.html")


def test_the_page_is_well_formed(page):
    assert page.problems == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for tag, attributes in page.elements if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(ids)
    assert ("html", {"lang": "en"}) in page.elements


def test_the_page_needs_no_network(page):
    for tag, attributes in page.elements:
        assert tag not in ("link", "img", "iframe", "object", "embed", "base"), tag
        for name in ("src", "srcset", "data", "action"):
            assert name not in attributes, (tag, attributes)
        assert attributes.get("href", "#").startswith("#")
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import", "".join(page.styles))
    policy = next(
        attributes["content"]
        for _, attributes in page.elements
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy
    # The library, the data and the drawing, and nothing that came from outside.
    assert len([tag for tag, _ in page.elements if tag == "script"]) == 3


def test_the_page_holds_everything(folder, rows):
    page = Page(folder / "report.html")
    trial_rows, runs, _ = rows
    answer = answers.conclude(*rows)
    reason = answer.reason[0].upper() + answer.reason[1:]
    assert answer.advice == "Use ILM group norm"
    assert page.text.index(f"{answer.advice} {' '.join(reason.split())}") < page.text.index(
        "import"
    )
    for row in trial_rows:
        assert " ".join(tables.compact_json(row["spec"]).split()) in page.text
        assert f" {row['seed']} " in page.text
    table = page.text.split("Every training for the answer")[1].split("How it was made")[0]
    for seed in {row["seed"] for row in runs}:
        arms = [row["arm"] for row in runs if row["seed"] == seed]
        assert table.count(f" {seed} ") == len(arms)
        assert all(arm in table for arm in arms)
    assert page.text.count("FloatingPointError") == 2
    assert "24 trials: 18 completed, 4 stopped, 2 failed." in page.text
    assert "kerasnorm-search --arch ResNet20 --data digits" in page.text
    assert '"fingerprint": "5f3c"' in page.text
    assert "1.20 %" in page.text
    bodies = page.text.split("Every trial of the search")[1]
    assert all(f"{row['parameters']:,}" in bodies for row in trial_rows)


def test_every_plot_has_a_place_and_a_drawing(folder):
    page = Page(folder / "report.html")
    (drawn,) = [json.loads(text) for text in page.scripts if text.startswith('{"pareto"')]
    ids = {attributes.get("id") for _, attributes in page.elements}
    expected = {*report.pictures.DRAWINGS} - {"importance"}
    assert expected <= set(drawn)
    assert {f"plot-{name}" for name in drawn} <= ids
    script = page.scripts[-1]
    for name in drawn:
        assert f"{name}(" in script or f"data.{name}" in script


def test_what_the_user_wrote_stays_text(hostile):
    page = Page(hostile / "report.html")
    assert "</script><script>alert(1)</script><img src=x>" in page.text
    assert not any(tag == "img" for tag, _ in page.elements)
    assert not any("alert(1)" in text for text in page.scripts[-1:])
    for path in (hostile / "tables").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        assert "<" not in text
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in rows}) <= 1, path


def test_latex_is_escaped(hostile):
    for path in (hostile / "tables").glob("*.tex"):
        text = path.read_text(encoding="utf-8")
        assert r"\input{" not in text
        # What is left of special characters is escaped, or part of a command of ours.
        lines = [line for line in text.splitlines()[1:] if not re.match(r" *\\[a-z]", line)]
        body = "\n".join(lines)
        for command in ("textbackslash", "textless", "textgreater", "textbar", "textasciitilde"):
            body = body.replace(rf"\{command}{{}}", "")
        body = body.replace("$-$", "").replace(r"$\star$", "")
        assert not re.search(r"(?<!\\)[%$#_{}^~]", body), path
        assert {line.count(" & ") for line in lines} == {lines[0].count(" & ")}
        assert all(line.endswith(r" \\") for line in lines)


@pytest.mark.slow
def test_latex_compiles(hostile, tmp_path):
    inputs = "\n".join(rf"\input{{{path}}}" for path in (hostile / "tables").glob("*.tex"))
    document = (
        r"\documentclass{article}\usepackage{booktabs}"
        rf"\begin{{document}}{inputs}\end{{document}}"
    )
    (tmp_path / "a.tex").write_text(document)
    command = [program("pdflatex"), "-interaction=nonstopmode", "-halt-on-error", "a.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_tables_agree_with_the_rows(folder, rows):
    trial_rows, runs, _ = rows
    answer = answers.conclude(*rows)
    for name, count in {
        "leaderboard": len(answer.arms),
        "trials": len(trial_rows),
        "runs": len(runs),
        "ablation": len(answer.ablation),
        "importance": len(answer.importance.shares),
    }.items():
        with open(folder / "tables" / f"{name}.csv", encoding="utf-8", newline="") as file:
            read = list(csv.DictReader(file))
        assert len(read) == count
        latex = (folder / "tables" / f"{name}.tex").read_text(encoding="utf-8")
        assert latex.count(r" \\") == count + 1
        markdown = (folder / "tables" / f"{name}.md").read_text(encoding="utf-8")
        assert markdown.count("\n| ") == count + 2
        if name == "trials":
            # The raw values, for programs.
            assert [json.loads(row["spec"]) for row in read] == [r["spec"] for r in trial_rows]
            assert float(read[0]["score"]) == trial_rows[0]["score"]
            assert read[7]["score"] == ""
        if name == "leaderboard":
            assert float(read[0]["difference_high"]) == answer.comparisons[0].high


def test_workers_and_what_was_begun_again_are_told(tmp_path):
    trial_rows, runs, found = search()
    answer = answers.conclude(trial_rows, runs, found)
    assert "worker" not in tables.as_markdown(tables.trials(trial_rows, found, answer))
    trial_rows[0] |= {"worker": "2 on 127.0.0.4", "lost": ["its worker fell silent"]}
    runs[1]["worker"] = "1"
    text = tables.as_markdown(tables.trials(trial_rows, found, answer))
    (line,) = [line for line in text.splitlines() if "127.0.0.4" in line]
    assert "begun again: its worker fell silent" in line
    page = (written(tmp_path, trial_rows, runs, found) / "report.html").read_text("utf-8")
    assert len(re.findall(r"<th[^>]*>(?:<button[^>]*>)?worker<", page)) == 2
    assert "2 on 127.0.0.4" in page


def test_the_norm_to_use_stands_out(folder, rows):
    """In the page, in every kind of table, and in the terminal, wide or not."""
    answer = answers.conclude(*rows)
    with open(folder / "tables" / "leaderboard.csv", encoding="utf-8", newline="") as file:
        marked = [row["arm"] for row in csv.DictReader(file) if row["recommended"] == "True"]
    assert marked == [answer.best] == ["ILM group norm"]
    for suffix, mark in (("md", "★"), ("tex", r"$\star$")):
        lines = (
            (folder / "tables" / f"leaderboard.{suffix}").read_text(encoding="utf-8").splitlines()
        )
        # Once in the caption, once in the row.
        assert [answer.best in line for line in lines if mark in line] == [False, True]
    page = Page(folder / "report.html")
    assert ("tr", {"class": "recommended", "data-verdict": "better"}) in page.elements
    for width in (80, 120):
        text = io.StringIO()
        console = Console(file=text, width=width)
        terminal.show(console, rows[0], rows[1], rows[2], answer, pathlib.Path("a folder"))
        printed = text.getvalue()
        assert next(answer.best in line for line in printed.splitlines() if "★" in line)
        assert "24 trials (18 completed, 4 stopped, 2 failed)" in printed
        assert max(map(len, printed.splitlines())) <= width
        for name in ("report.html", "best_norm.json"):
            assert str(pathlib.Path("a folder") / name) in printed


def test_the_page_says_each_thing_once(folder, rows):
    """Specs are behind a click, what does not matter is left out, and every trial is there."""
    page = Page(folder / "report.html")
    parts = [attributes.get("id", "") for tag, attributes in page.elements if tag == "details"]
    assert [part for part in parts if part.startswith("trial-")] == [
        f"trial-{n}" for n in range(24)
    ]
    assert {"overhead", "all-runs", "whole-manifest"} <= set(parts)
    answer = answers.conclude(*rows)
    answer.importance.shares = {"a": 0.99, "b": 0.01, **{str(n): 0.0 for n in range(26)}}
    assert plots.importance(answer) == {"names": ["a", "b"], "shares": [0.99, 0.01]}
    assert "26 other hyperparameters" in report._unimportant(answer)
    # What two trials have is no panel.
    few = [{**row, "values": {"a": n} if n < 2 else {"b": n}} for n, row in enumerate(rows[0][:6])]
    assert plots.varied(few) == ["b"]


def test_the_best_norm_is_a_spec(folder):
    spec = json.loads((folder / "best_norm.json").read_text())
    assert isinstance(kerasnorm.get(spec), kerasnorm.ILMGroupNorm)


def test_the_other_files_are_json(folder, rows):
    assert json.loads((folder / "manifest.json").read_text()) == rows[2]
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["best"] == "ILM group norm"


def test_pictures_of_every_plot(folder, hostile):
    for out in (folder, hostile):
        pictures = {path.name for path in (out / "plots").iterdir()}
        assert len(pictures) >= 14
        for path in (out / "plots").glob("*.svg"):
            assert xml.etree.ElementTree.parse(path).getroot().tag.endswith("svg")
            assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    # Formulas are not parsed: what the user wrote stands there as it is.
    picture = xml.etree.ElementTree.parse(hostile / "plots" / "pareto.svg")
    assert "$a_1$" in " ".join(picture.getroot().itertext())


def test_the_same_search_gives_the_same_files(folder, rows, tmp_path):
    again = written(tmp_path, *rows)
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (again / path.relative_to(folder)).read_bytes(), path


EDGES = {
    "nothing": ([], [], manifest()),
    "no manifest to speak of": ([], [], {}),
    "one trial": (search(trials=1)[0], [], search(trials=1)[2]),
    "one seed": search(trials=3, seeds=1),
    "all failed": (
        [row for row in search()[0] if row["status"] == "failed"],
        run_rows({"a": [None] * 3, "b": [None] * 3}, {"a": "candidate", "b": "baseline"}),
        manifest(),
    ),
    "a loss": (
        search()[0],
        run_rows({"a": [3.5, 4.5, 3], "b": [9, 8, 9]}, {"a": "candidate", "b": "baseline"}),
        manifest(objective="val_loss", data={"name": "mine"}),
    ),
    "accuracy": (search()[0], [], manifest(objective="val_accuracy", direction="max")),
}


@pytest.mark.parametrize("name", EDGES)
def test_unusual_searches_have_a_report_too(name, tmp_path):
    page = Page(written(tmp_path, *EDGES[name]) / "report.html")
    assert page.problems == []
    for word in ("None", "nan", "undefined"):
        assert not re.search(rf"\b{word}\b", page.text), word


def test_rows_with_infinite_and_missing_numbers_are_shown(tmp_path):
    trial_rows, runs, found = search(trials=12)
    trial_rows[1]["score"] = math.inf
    trial_rows[2]["score"], trial_rows[2]["status"] = math.nan, "failed"
    trial_rows[3] |= {"step_seconds": None, "parameters": None, "curve": [], "seconds": 0.0}
    trial_rows[4]["curve"][-1]["val_error"] = math.nan
    runs[0] |= {"test_error": None, "status": "failed", "reason": "out of memory"}
    page = Page(written(tmp_path, trial_rows, runs, found) / "report.html")
    assert "∞" in page.text
    assert "out of memory" in page.text
    assert "did not finish on 1 of 5 seeds" in page.text
    json.loads(page.scripts[1], parse_constant=pytest.fail)


# While a search runs, and when it ends otherwise.


def test_the_report_of_a_search_that_runs(tmp_path, rows):
    trial_rows, runs, found = rows
    done, page = {"told": [], "run": []}, tmp_path / "report.html"
    found = {**found, "trials": 24}
    reporter = live.Reporter(tmp_path, lambda event="told": done[event], found, every=3600)
    reporter.trial_started(None)
    reporter.close()
    assert not page.exists()
    done["told"] = trial_rows[:1]
    reporter.trial_ended(None, trial_rows[0])
    reporter.close()
    first = Page(page)
    assert first.problems == []
    assert "Running. 1 of at most 24 trials are done, as of" in first.text
    assert "Best so far: batch norm" in first.text
    assert any("data-reload" in attributes for _, attributes in first.elements)
    assert not (tmp_path / "plots").exists()
    # The next one has to wait.
    done["told"] = trial_rows
    reporter.trial_ended(None, trial_rows[1])
    reporter.close()
    assert Page(page).text == first.text
    # In the answer no part of the trainings gives a verdict.
    keys = ("arm", "role", "spec", "values", "changed", "around")
    runs = [{"values": {}, **row} for row in runs]
    arms = [{key: row[key] for key in keys if key in row} for row in runs]
    found["arms"] = [arm for index, arm in enumerate(arms) if arm not in arms[:index]]
    done["run"] = runs[:7]
    answer = reporter.finish()
    assert answer.rests_on == "validation"
    assert answer.notes[0].startswith(
        "The search did not come to its end: 7 of 50 trainings for the answer are done. "
        "`kerasnorm-search --resume --out "
    )
    done["run"] = runs
    assert reporter.finish().advice == "Use ILM group norm"
    last = Page(page)
    assert "Running" not in last.text
    assert not any("data-reload" in attributes for _, attributes in last.elements)
    assert not list(tmp_path.rglob("part_*"))


def test_an_interrupted_search_leaves_a_report(tmp_path, capsys):
    calls = []

    def interrupted(norm):
        calls.append(norm)
        # Once to read the space, three trials, and then the answer.
        if len(calls) == 7:
            raise KeyboardInterrupt
        return build(norm)

    with pytest.raises(Interrupted, match=r"report of what there is: .*report\.html"):
        short_search(tmp_path / "a", network=interrupted)
    page = Page(tmp_path / "a" / "report.html")
    assert "did not come to its end: 2 of" in page.text
    assert "holds the best norm by validation" in page.text
    spec = json.loads((tmp_path / "a" / "best_norm.json").read_text())
    kerasnorm.get(spec)
    # Without a manifest there is still a report.
    (tmp_path / "a" / "manifest.json").write_text('{"torn')
    assert live.rebuild(tmp_path / "a").best_spec == spec
    result = short_search(tmp_path / "a", network=interrupted, resume=True)
    assert result.answer.rests_on == "comparison"
    before = {path: path.read_bytes() for path in (tmp_path / "a").rglob("*.*")}
    # All but the weights can be made again from the journal.
    shutil.rmtree(tmp_path / "a" / "tables")
    for path in (tmp_path / "a").glob("*.*"):
        if path.name != "journal.jsonl":
            path.unlink()
    assert cli.main(["report", str(tmp_path / "a")]) == 0
    for path, contents in before.items():
        assert path.read_bytes() == contents, path
    assert cli.main(["plan", "--from", str(tmp_path / "a"), "--difference", "90"]) == 0
    printed = capsys.readouterr().out
    assert "To show 90.00 points, it would take:" in printed
    assert f"{len(result.manifest['seeds'])} seeds and" in printed
    shown = repr(result).splitlines()
    assert shown[0] == result.answer.sentence
    assert len(shown) == 4
    assert all(map(len, shown))
    assert (tmp_path / "a" / "report.html").as_uri() in result._repr_html_()


def test_there_is_a_report_without_an_answer(tmp_path):
    result = short_search(tmp_path / "a", seeds=0)
    page = Page(tmp_path / "a" / "report.html")
    assert result.answer.advice.startswith("Try ")
    assert "did not come to its end" not in page.text
    assert "Nothing was trained again on new seeds" in page.text
    assert {path.name for path in (tmp_path / "a" / "plots").iterdir()} >= {"curves_trials.png"}
    assert json.loads((tmp_path / "a" / "best_norm.json").read_text()) == result.answer.best_spec


def test_a_folder_without_a_search_has_no_report(tmp_path, capsys):
    for command in (["report", str(tmp_path)], ["plan", "--from", str(tmp_path), "--difference=1"]):
        assert cli.main(command) == 2
        assert "has no journal.jsonl. Needed:" in capsys.readouterr().err


def test_there_is_no_plan_without_an_answer(tmp_path, capsys):
    short_search(tmp_path / "a", seeds=0)
    assert cli.main(["plan", "--from", str(tmp_path / "a"), "--difference", "1"]) == 2
    assert "no plain norm that finished its trainings" in capsys.readouterr().err


@pytest.mark.parametrize(
    "spec",
    [
        {"name": "group", "groups": 4},
        [{"name": "group", "groups": 4}, {"name": "batch"}],
        {"stages": [{"name": "group", "groups": 4}, {"name": "ilm_group", "key_group_size": 2}]},
    ],
)
def test_the_code_to_paste_runs(spec):
    row = search(trials=1)[0][0] | {"spec": spec}
    code = usage.code(answers.conclude([row], [], manifest()))
    assert "# The search trained it with learning_rate" in code
    names = {"model": build("batch")}
    exec(code, names)
    assert names["norm"] == spec
    assert "GroupNorm" in str(names["model"].norm_report)


# What the plots show.


def test_a_missing_hyperparameter_is_a_place_of_its_own(rows):
    score = {"name": "val_error", "percent": True, "direction": "min"}
    plot = plots.parallel(rows[0], score)
    groups = next(axis for axis in plot["axes"] if axis["name"] == "groups")
    shown = plots.scored(rows[0])
    values = {row["values"]["groups"] for row in shown if "groups" in row["values"]}
    assert groups["ticks"] == ["not used", *map(str, sorted(values))]
    for row, at in zip(shown, groups["at"], strict=True):
        assert groups["ticks"][at] == str(row["values"].get("groups", "not used"))
    rates = next(axis for axis in plot["axes"] if axis["name"] == "learning_rate")
    assert (rates["ticks"], rates["log"]) == (None, True)
    # What does not vary has no axis.
    assert "batch_size" not in [axis["name"] for axis in plot["axes"]]


def test_slices_hold_the_trials_that_have_the_hyperparameter(rows):
    score = {"name": "val_error", "percent": True, "direction": "min"}
    panels = {panel["name"]: panel for panel in plots.slices(rows[0], score)["panels"]}
    having = [row["trial"] for row in plots.scored(rows[0]) if "groups" in row["values"]]
    assert panels["groups"]["trials"] == having
    # One value, where it is there at all, shows nothing.
    assert {row["values"]["modes"] for row in rows[0] if "modes" in row["values"]} == {2}
    assert "modes" not in panels


def test_mean_curves_end_with_the_shortest(rows):
    lines = [{"x": [1, 2, 3], "y": [3.0, 2.0, 1.0]}, {"x": [1, 2], "y": [1.0, 1.0]}]
    assert plots._mean_line(lines) == {"x": [1, 2], "y": [2.0, 1.5]}


# In a browser.


@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("name", ["folder", "hostile"])
def test_a_browser_draws_it(name, width, request, tmp_path):
    """The script ran to its end, every plot is drawn, and a phone need not scroll sideways."""
    path = pathlib.Path(request.getfixturevalue(name)) / "report.html"
    probe = (
        "<script>document.title = 'alert not called'; window.alert = () => {document.title = 'X'};"
        "addEventListener('load', () => setTimeout(() => { const drawn = ["
        "...document.querySelectorAll('.js-plotly-plot')].filter((p) => p.querySelector('svg'));"
        "const root = document.documentElement; root.setAttribute('data-drawn', drawn.length);"
        "root.setAttribute('data-wide', root.scrollWidth > innerWidth);"
        "root.setAttribute('data-title', document.title); }, 5000));</script>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(path.read_text(encoding="utf-8").replace("<style>", f"{probe}<style>", 1))
    # Windows of Chromium are at least 500 wide: the phone is a frame in one.
    frame = tmp_path / "frame.html"
    frame.write_text(
        f"<iframe id=f width={width} height=900 src=probed.html></iframe><script>setTimeout(() => "
        "{ const root = document.getElementById('f').contentDocument.documentElement; for (const "
        "name of ['drawn', 'wide', 'title']) document.documentElement.setAttribute('data-' + name, "
        "root.getAttribute('data-' + name)); }, 25000);</script>"
    )
    command = [
        program("chromium", "chromium-browser"), "--headless", "--no-sandbox",
        "--enable-unsafe-swiftshader",
        "--allow-file-access-from-files", "--window-size=1400,900", "--virtual-time-budget=30000",
        f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = dict(re.findall(r'data-(drawn|wide|title)="([^"]*)"', done.stdout))
    drawn = json.loads(Page(path).scripts[1])
    panels = len(drawn.pop("slices")["panels"])
    assert found == {
        "drawn": str(len(drawn) + panels),
        "wide": "false",
        "title": "alert not called",
    }
