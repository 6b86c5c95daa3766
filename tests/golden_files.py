"""Write what later versions must still read into tests/golden, when a version is released.

    KERAS_BACKEND=torch python tests/golden_files.py

A folder such as tests/golden/v0.2 is of 0.2.0 and stays as it is. It has the files that
`saved_models.py` saves, and the journal of a small search with the norm that it found.
"""

import pathlib
import shutil
import tempfile

import kerasnorm
import saved_models
import search

GOLDEN = pathlib.Path(__file__).parent / "golden"
# So that a search goes on with the journal alone, names stand for the network and the data.
SEARCH = {
    "network": "resnet8",
    "arguments": {"width": 4},
    "data": "digits",
    "norms": "batch,group,mode",
    "placements": "all",
    "trials": 3,
    "epochs": 1,
    "seeds": 3,
    "candidates": 1,
    "ablation": 1,
    "batch_size": 256,
    "jit_compile": False,
}


def folder_of(version):
    """Where the files of a version are; its patches have the same."""
    return GOLDEN / f"v{version.rpartition('.')[0]}"


def write(folder):
    """Write the files of this version."""
    folder.mkdir()
    saved_models.save(folder)
    (folder / "search").mkdir()
    with tempfile.TemporaryDirectory() as out:
        search.run(**SEARCH, out=out, console=False)
        for name in ("journal.jsonl", "best_norm.json"):
            shutil.copy(pathlib.Path(out) / name, folder / "search")


if __name__ == "__main__":
    write(folder_of(kerasnorm.__version__))
