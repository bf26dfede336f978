"""An extension of griffe, which reads docstrings for the docs site: examples at their end are examples.

Docstrings of the package end with lines for doctest, without a heading; Markdown takes them for quotes.
"""

import re

import griffe


class Examples(griffe.Extension):
    """Puts a heading before the first example of a docstring."""

    def on_object(self, *, obj, **kwargs):
        """Change the docstring of an object that was read."""
        if obj.docstring is None or "Examples:" in obj.docstring.value:
            return
        text, mark, examples = re.split(
            r"^(>>> )", obj.docstring.value + "\n>>> ", maxsplit=1, flags=re.MULTILINE
        )
        if examples:
            indented = re.sub(r"^(?=.)", "    ", mark + examples.removesuffix("\n>>> "), flags=re.MULTILINE)
            obj.docstring.value = f"{text}Examples:\n{indented}"
