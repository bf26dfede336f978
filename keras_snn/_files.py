"""Writing files so that they are whole or not there."""

import contextlib
import os
import pathlib
import tempfile

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(*paths):
    """Give paths to write to; when all is written without an error, these files take the place of `paths`.

    Args:
        paths: `pathlib.Path`s in one folder, which exists.

    Yields:
        A list of paths of the same names in another folder, which is gone afterwards.
    """
    with tempfile.TemporaryDirectory(dir=paths[0].parent, prefix=f".{paths[0].stem}-") as folder:
        temporary = [pathlib.Path(folder) / path.name for path in paths]
        yield temporary
        for written, path in zip(temporary, paths, strict=True):
            os.replace(written, path)
