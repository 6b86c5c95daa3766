"""What the distributions say of the address of the repository, if the environment names one.

    SOURCE_URL=https://... python -m build

The release workflow does so. Then the project has links, and those of the README, which lead to
files beside it, lead there from anywhere.
"""

import os
import pathlib
import re

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Address(MetadataHookInterface):
    """Fills in `urls` and `readme`. A wheel that is built from an sdist has what the sdist has."""

    def update(self, metadata: dict) -> None:
        """Write into the metadata."""
        address = os.environ.get("SOURCE_URL", "").rstrip("/")
        text = (pathlib.Path(self.root) / "README.md").read_text(encoding="utf-8")
        urls = {}
        if address:
            files = f"{address}/blob/v{metadata['version']}"
            urls = {"Repository": address, "Changelog": f"{files}/CHANGELOG.md"}
            text = re.sub(r"(!\[[^]]*\]\()(?!https://)([^)]+)", rf"\1{files}/\2?raw=true", text)
            text = re.sub(r"(\]\()(?!https://)([^)]+)", rf"\1{files}/\2", text)
        metadata.setdefault("urls", urls)
        metadata.setdefault("readme", {"content-type": "text/markdown", "text": text})
