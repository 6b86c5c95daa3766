"""The site: it builds without a warning; tabs of backends, and the report in its frame."""

import html.parser
import json
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from docs.site_extension import BACKENDS, REPORT, SEARCH
from readme import DOCS, ROOT, blocks
from search import cli

EXTRAS = {"TensorFlow": "tensorflow", "JAX": "jax", "PyTorch": "torch"}
TABBED = ("install", "first_steps")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built pages, made as by `make docs`."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [
            *(sys.executable, "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet"),
            *("--doctree-dir", folder / "doctrees", "--builder", "html", DOCS, folder / "site"),
        ],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


class Tabs(html.parser.HTMLParser):
    """The sets of tabs of a page: of each, its inputs, its labels and the texts of its panels.

    Attributes:
        sets: a dictionary for each set of tabs.
        outside: the text of the page that is in no panel.
    """

    def __init__(self, path):
        super().__init__()
        self.sets, self.outside, self._open = [], "", []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        classes = (attributes.get("class") or "").split()
        if tag == "div":
            self._open.append(classes)
            if "sd-tab-set" in classes:
                self.sets.append({"inputs": [], "labels": [], "panels": []})
            if "sd-tab-content" in classes:
                self.sets[-1]["panels"].append("")
        if tag == "input" and self._within("sd-tab-set"):
            self.sets[-1]["inputs"].append(attributes)
        if tag == "label" and "sd-tab-label" in classes:
            self.sets[-1]["labels"].append(attributes)

    def handle_endtag(self, tag):
        if tag == "div":
            self._open.pop()

    def handle_data(self, data):
        if self._within("sd-tab-content"):
            self.sets[-1]["panels"][-1] += data
        else:
            self.outside += data

    def _within(self, name):
        return any(name in classes for classes in self._open)


@pytest.mark.parametrize("page", TABBED)
def test_each_set_of_tabs_has_all_backends_and_follows_the_others(page, site):
    tabs = Tabs(site / f"{page}.html")
    assert tabs.sets
    for one in tabs.sets:
        assert [label["data-sync-id"] for label in one["labels"]] == list(BACKENDS)
        assert {label["data-sync-group"] for label in one["labels"]} == {"backend"}
        # A label belongs to the button before it, and one button of a set is pressed.
        assert [label["for"] for label in one["labels"]] == [each["id"] for each in one["inputs"]]
        assert ["checked" in each for each in one["inputs"]] == [True, False, False]
        assert len({each["name"] for each in one["inputs"]}) == 1
        for name, panel in zip(BACKENDS, one["panels"], strict=True):
            assert panel.strip().startswith(f"# {name}\n")
            assert f"[{EXTRAS[name]}" in panel
    names = [one["inputs"][0]["name"] for one in tabs.sets]
    assert len(set(names)) == len(names)
    # A block of one backend stands nowhere else.
    assert not re.search(rf"^# ({'|'.join(BACKENDS)})$", tabs.outside, re.MULTILINE)


def test_the_pages_with_tabs_are_those_that_are_tested():
    tabbed = {
        path.stem
        for path in DOCS.rglob("*.md")
        for block in blocks(r"\w+", path)
        if block.partition("\n")[0].removeprefix("# ") in BACKENDS
    }
    assert tabbed == set(TABBED)


@pytest.mark.parametrize("page", TABBED)
def test_what_switches_the_tabs_is_part_of_the_site(page, site):
    text = (site / f"{page}.html").read_text(encoding="utf-8")
    (script,) = re.findall(r'src="([^"?]*design-tabs\.js)', text)
    assert (site / script).is_file()


def test_the_guide_shows_a_report_in_a_frame(site):
    text = (site / "searching.html").read_text(encoding="utf-8")
    assert f'<iframe class="report" src="{REPORT}"' in text
    assert f'<a href="{REPORT}">' in text
    assert "report.png" not in text
    report = (site / REPORT).read_text(encoding="utf-8")
    assert "<title>Which norm for resnet8 (width 4) on digits?</title>" in report
    # Its text names the file beside it. It is whole, and shows without any other.
    assert (site / REPORT).with_name("best_norm.json").is_file()
    assert "The search did not come to its end" not in report
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="(?!data:)', report)


def test_the_report_is_of_the_command_above_it():
    made = json.loads((SEARCH / "journal.jsonl").read_text().partition("\n")[0])["call"]["made"]
    asked = shlex.split(blocks("sh", DOCS / "searching.md")[0].splitlines()[1])
    of_page, of_search = (
        vars(cli.parser().parse_args(command[1:])) for command in (asked, made["command"])
    )
    other = {name for name, value in of_page.items() if of_search[name] != value}
    assert other <= {"backend", "out"}


@pytest.mark.slow
def test_a_browser_switches_the_tabs_of_all_pages(site, tmp_path):
    """A click on a page chooses the backend there, and on the page that is opened next."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    assert browser, "chromium is not installed; CONTRIBUTING.md says what make test-full needs."
    first, second = TABBED
    (site / "frame.html").write_text(
        "<iframe id=f width=1000 height=800></iframe><script>"
        "const frame = document.getElementById('f');"
        "const shown = () => [...frame.contentDocument.querySelectorAll('.sd-tab-content')]"
        ".filter((panel) => panel.offsetHeight > 0)"
        ".map((panel) => panel.innerText.trim().split('\\n')[0]).join();"
        "const say = (name) => document.documentElement.setAttribute('data-' + name, shown());"
        "const open = (page) => new Promise((done) => { frame.onload = () => setTimeout(done, 500);"
        " frame.src = page; });"
        "(async () => {"
        f"await open('{first}.html'); say('before');"
        "frame.contentDocument.querySelector('[data-sync-id=JAX]').click(); say('after');"
        f"await open('{second}.html'); say('there'); }})();</script>"
    )
    command = [
        browser, "--headless", "--no-sandbox", "--allow-file-access-from-files",
        "--virtual-time-budget=20000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
        pathlib.Path(site / "frame.html").as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    found = dict(re.findall(r'data-(before|after|there)="([^"]*)"', done.stdout))
    assert found == {"before": "# TensorFlow", "after": "# JAX", "there": "# JAX"}
