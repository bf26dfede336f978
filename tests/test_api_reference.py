"""The reference that `make docs` builds from docstrings."""

import re

import pytest

import keras_snn

pdoc = pytest.importorskip("pdoc")

MODULES = {"rules", "callbacks", "errors", "layers", "neurons", "plots"}


def pages():
    pdoc.render.configure(docformat="google", show_source=False)
    modules = {"keras_snn": keras_snn}
    modules |= {f"keras_snn.{name}": getattr(keras_snn, name) for name in MODULES}
    made = {name: pdoc.doc.Module(module) for name, module in modules.items()}
    return {name: pdoc.render.html_module(module, made) for name, module in made.items()}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_the_reference_has_every_public_name_with_its_arguments():
    for name, page in pages().items():
        module = keras_snn if name == "keras_snn" else getattr(keras_snn, name.split(".")[1])
        public = set(module.__all__) - MODULES - {"__version__"}
        assert public <= set(re.findall(r'id="(\w+)"', page)), name
        # Docstrings that the converter does not understand show their headings as they are.
        assert not re.search(r"<p>(Args|Returns|Raises):", page), name
