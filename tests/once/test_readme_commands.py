"""The README's commands run as they are written, in fresh folders; long ones with less work."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
import pytest

import kerasnorm
from benchmarks import results, show, tables
from readme import README, ROOT, commands, lost_links, write_files

# Whatever comes last on a command line counts.
LITTLE = "--trials 1 --epochs 1 --seeds 0 --placements all --norms batch"
SMALL = "--epochs 1 --seeds 0 --placements all --norms batch,layer --width 2 --no-jit"
# In these folders, with these further arguments.
OF_AN_ARCHITECTURE = {
    "kerasnorm-search --arch resnet20 --data digits --trials 20 --out results": (
        f"--trials 1 {SMALL}"
    ),
    "kerasnorm-search --arch resnet20 --data digits --trials 40 --out results --resume": (
        f"--trials 2 {SMALL}"
    ),
}
OF_ONES_OWN = {
    "python my_data.py": "",
    "kerasnorm-search --model my_models.py:build --data my_data.npz --norms batch,group,mode "
    "--epochs 20 --out mine": LITTLE,
    "kerasnorm-search --model my_models.py:build --data my_data.npz --show-space": "",
}
SEARCHES = {**OF_AN_ARCHITECTURE, **OF_ONES_OWN}
IN_A_CLONE = {
    "KERAS_BACKEND=jax python -m benchmarks layers": (
        "--quick --no-literal --layers BatchNorm --shapes 2x4x4x32"
    ),
    "make test": "--dry-run",
    "make search": "--dry-run",
}
# A trained network and some images are there.
CONVERSION = (
    "kerasnorm-convert model.keras --norm ilm_layer --data images.npz --out converted.keras"
)
# What the test of clean installations does with each backend.
INSTALLATION = ["git clone URL kerasnorm", "cd kerasnorm", "pip install '.[jax,search]'"]
SETTINGS = ["export KERAS_BACKEND=jax"]


def run(line, further, folder, **variables):
    """Run a line of a shell, with further arguments, as somebody would in this environment."""
    scripts = os.path.dirname(sys.executable)
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", **variables}
    done = subprocess.run(
        ["bash", "-ec", f"{line} {further}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{line} {further}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_each_command_has_a_test():
    written = commands()
    assert written == list(dict.fromkeys(written))
    tested = [*INSTALLATION, *SETTINGS, *SEARCHES, *IN_A_CLONE, CONVERSION]
    assert set(written) <= set(tested)
    # Commands in a sentence count, too.
    assert set(tested) - set(written) == {"make search"}
    assert "`make search`" in README.read_text()


@pytest.mark.parametrize(
    ("searches", "folder"),
    [
        pytest.param(OF_AN_ARCHITECTURE, "results", marks=pytest.mark.slow),
        (OF_ONES_OWN, "mine"),
    ],
)
def test_the_searches(searches, folder, tmp_path):
    write_files(tmp_path)
    assert [line for line in commands() if line in searches] == list(searches)
    for line, further in searches.items():
        run(line, further, tmp_path, KERAS_BACKEND="torch")
    assert (tmp_path / folder / "report.html").exists()


def test_the_conversion(tmp_path):
    kerasnorm.models.LeNet((16, 16, 1), 3, norm="batch").save(tmp_path / "model.keras")
    images = np.random.default_rng(0).normal(size=(16, 16, 16, 1)).astype("float32")
    np.savez(tmp_path / "images.npz", x=images)
    said = run(CONVERSION, "", tmp_path)
    assert "BatchNorm" in said
    assert "ILMLayerNorm" in said
    assert (tmp_path / "converted.keras").exists()


def test_what_runs_in_a_clone(tmp_path):
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    # What would be cloned, with what is not committed yet.
    for name in tracked.stdout.splitlines():
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    for line, further in IN_A_CLONE.items():
        run(line, further, tmp_path, PYTHONPATH=str(tmp_path))


def test_the_clone(tmp_path):
    clone, enter, install = INSTALLATION
    url = shlex.quote(str(ROOT))
    run(f"{clone.replace('URL', url)} && {enter} && test -f README.md", "", tmp_path)
    assert re.fullmatch(r"pip install '\.\[jax,search\]'", install)


def test_the_speed_table_is_that_of_the_results():
    runs = results.read(ROOT / "benchmarks" / "results" / "cpu.json")
    start, end = show.MARKS
    _, _, rest = README.read_text().partition(start)
    assert rest.partition(end)[0].strip() == tables.overview(runs).markdown()


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    assert lost_links(ROOT / name) == []
