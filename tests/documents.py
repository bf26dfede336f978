"""The Python in the documents, to be run as tests."""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent


def run_blocks(name, names, only=slice(None)):
    """Run the Python blocks of a document, in the names given, one after the other; return their number."""
    text = (ROOT / name).read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[only]
    for block in blocks:
        exec(compile(block, name, "exec"), names)
    return len(blocks)
