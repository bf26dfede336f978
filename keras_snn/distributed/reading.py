"""Datasets of Ray in files: Parquet, and images in a folder for each class."""

import pathlib

__all__ = ["read_dataset"]

_LABELS = ("y", "label", "labels")
# What Pillow calls pictures of so many channels.
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def read_dataset(source, *, names, shape, raw_pixels=False):
    """Return a `ray.data.Dataset`, and the column of its labels or `None`.

    Args:
        source: A .parquet file, a folder with some, or a folder of folders of images, one for each class in
            the order of their names.
        names: Names of the inputs of the model.
        shape: Shape of a sample of its first input.
        raw_pixels: Whether pixels of images stay in 0 … 255 instead of being divided by 255.

    Raises:
        ValueError: If there is no such data.
    """
    from ray import data

    path = pathlib.Path(source)
    if path.suffix == ".parquet" or any(path.glob("*.parquet")):
        dataset = data.read_parquet(str(path))
        labels = next((name for name in _LABELS if name in (dataset.columns() or ())), None)
        return dataset, labels
    classes = sorted(folder.name for folder in path.glob("*") if folder.is_dir())
    if not classes:
        raise ValueError(
            f"'{source}' must be a .parquet file, a folder with some, or a folder with a folder of images "
            "for each class. Received: none of these."
        )
    if len(names) != 1 or len(shape) != 3 or shape[-1] not in _MODES:
        raise ValueError(
            f"'{source}' holds images, for a model with one input of images. Received: inputs {names}, the "
            f"first of shape {tuple(shape)}."
        )
    images = data.read_images(str(path), size=tuple(shape[:2]), mode=_MODES[shape[-1]], include_paths=True)
    factor = 1.0 if raw_pixels else 1 / 255

    def prepared(batch):
        folders = [pathlib.PurePath(name).parent.name for name in batch["path"]]
        pixels = batch["image"].reshape(-1, *shape).astype("float32") * factor
        return {names[0]: pixels, "y": [classes.index(name) for name in folders], "path": batch["path"]}

    return images.map_batches(prepared, batch_format="numpy"), "y"
