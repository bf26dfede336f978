"""The notebook of the examples, executed from top to bottom."""

import os
import pathlib
import re

import pytest

nbformat = pytest.importorskip("nbformat")
nbclient = pytest.importorskip("nbclient")
TOUR = pathlib.Path(__file__).parent.parent / "examples" / "tour.ipynb"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.process
def test_the_tour_runs_and_shows_its_plots(tmp_path, monkeypatch):
    # The kernel finds the package of these tests, whichever is installed.
    root = str(TOUR.parent.parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(TOUR, as_version=4)
    kept = shown(notebook)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    # It is kept with its outputs, for who reads it without running it; numbers may differ by machine.
    for text, pictures in (kept, shown(notebook)):
        assert pictures == 7
        assert "SpikingConv2D" in text
        assert "multi_threshold" in text
    assert words(kept) == words(shown(notebook)), "Run the notebook again, and keep its outputs."


def words(found):
    return re.findall(r"[A-Za-z_]+", found[0])


def shown(notebook):
    """Return the text that a notebook printed, and how many pictures it shows."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    text = "".join(output.get("text", "") for output in outputs if output.output_type == "stream")
    return text, sum("image/png" in output.get("data", {}) for output in outputs)
