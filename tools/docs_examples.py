"""Extensions of griffe, which reads docstrings for the docs site, and a hook of mkdocs, which writes them.

Docstrings of the package end with lines for doctest, without a heading; Markdown takes them for quotes.
"""

import re

import griffe


def on_page_content(html, **kwargs):
    """Return the page without the dash that mkdocstrings puts before a return value without a type."""
    return re.sub(r'(<li class="doc-section-item field-body">)\s*–', r"\1", html)


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


class Twins(griffe.Extension):
    """Gives layers, whose arguments are read from a stub, the docstrings that they or their bases have."""

    def on_package(self, *, pkg, **kwargs):
        """Change the layers of the package, once all of it was read."""
        for name in pkg["layers"].attributes.values():
            if str(name.value) in pkg["layers"].classes:
                name.docstring = griffe.Docstring(f"Another name of `{name.value}`.", parent=name)
        for layer in pkg["layers"].classes.values():
            if layer.docstring is None and layer.bases:
                (base,) = layer.resolved_bases
                layer.docstring = next((c.docstring for c in (base, *base.mro()) if c.docstring), None)
