"""A picture of a search's report, as docs/report.png is.

    kerasnorm-search --arch resnet8 --width 4 --data digits --trials 8 --epochs 4 \\
        --batch-size 128 --learning-rate 0.01 --norms batch,group,layer,ilm_group,mode \\
        --seeds 3 --candidates 2 --ablation 0 --out results
    python examples/report_picture.py results docs/report.png

The journal of that search is docs/sample_search: the site shows the report itself.

It needs Chromium.
"""

import argparse
import pathlib
import shutil
import subprocess
import tempfile

from PIL import Image

COLOURS = 256


def main(arguments=None):
    """Take the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=pathlib.Path, help="of the search")
    parser.add_argument("picture", type=pathlib.Path, help="the PNG to write")
    parser.add_argument("--width", type=int, default=1200)
    parser.add_argument("--height", type=int, default=1500)
    options = parser.parse_args(arguments)
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if browser is None:
        parser.error("chromium is not installed. Needed: it, to draw the page.")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            browser, "--headless", "--no-sandbox", "--enable-unsafe-swiftshader",
            "--hide-scrollbars", "--virtual-time-budget=15000",
            f"--window-size={options.width},{options.height}",
            f"--user-data-dir={folder}/profile", f"--screenshot={options.picture.absolute()}",
            (options.folder / "report.html").absolute().as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=300)
    # A page has few colours: with a palette the file is a third as large.
    with Image.open(options.picture) as picture:
        few = picture.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    few.save(options.picture, optimize=True)


if __name__ == "__main__":
    main()
