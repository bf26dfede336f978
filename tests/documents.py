"""The code in the documents, to be run as tests.

A block of Python with `<!-- not run: why -->` on the line above is left out.
"""

import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
_BLOCK = re.compile(r"(?:^<!-- not run: (.+?) -->\n)?^```([^\n]*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def blocks(name):
    """Return `(language, code, why it is not run)` of the blocks of code of a document, as text."""
    text = (ROOT / name).read_text(encoding="utf-8")
    return [(language, code, why) for why, language, code in _BLOCK.findall(text)]


def run_blocks(name, names, only=slice(None)):
    """Run the Python blocks of a document, in the names given, one after the other; return their number."""
    found = [code for language, code, why in blocks(name) if language == "python" and not why][only]
    for code in found:
        exec(compile(code, name, "exec"), names)
    return len(found)
