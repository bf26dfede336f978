"""Files that TensorBoard reads, written without TensorFlow."""

import io
import os
import socket
import time
import types

import numpy as np

from keras_snn.simulation.spike_counter import BINS

__all__ = ["EventFile", "tensorboard_writers"]


class EventFile:
    """A file of events, closed after each writing, so that it is whole also where a run breaks."""

    def __init__(self, folder, board):
        self._board = board
        name = f"events.out.tfevents.{time.time():.6f}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._append(board.Event(file_version="brain.Event:2"))
        except OSError as error:
            raise OSError(
                f"`log_dir` must be a folder that can be written. Received: log_dir='{folder.parent}' "
                f"({error.strerror}). Choose another folder."
            ) from error

    def append(self, summaries, step=0):
        """Append summaries of one step."""
        values = [value for summary in summaries for value in summary.value]
        self._append(self._board.Event(step=step, summary=self._board.Summary(value=values)))

    def _append(self, event):
        event.wall_time = time.time()
        with open(self._path, "ab") as file:
            self._board.RecordWriter(file).write(event.SerializeToString())


def tensorboard_writers():
    """Return what is used of TensorBoard, none of which loads TensorFlow."""
    try:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.plugins.histogram.metadata import create_summary_metadata
        from tensorboard.plugins.image.metadata import create_summary_metadata as create_image_metadata
        from tensorboard.plugins.scalar.summary_v2 import scalar_pb
        from tensorboard.plugins.text.summary_v2 import text_pb
        from tensorboard.summary.writer.record_writer import RecordWriter
        from tensorboard.util.tensor_util import make_tensor_proto
    except ImportError as error:
        raise ImportError(
            f"SpikeRateTensorBoard needs the package tensorboard. Received: {error}. "
            "Install it with: pip install tensorboard"
        ) from error

    def histogram(tag, counts):
        edges = np.arange(BINS + 1) / BINS
        tensor = make_tensor_proto(np.stack([edges[:-1], edges[1:], counts], axis=1), dtype=np.float64)
        metadata = create_summary_metadata(display_name=None, description=None)
        return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])

    def image(tag, figure):
        with io.BytesIO() as file:
            figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
            png = file.getvalue()
        width, height = figure.canvas.get_width_height()
        tensor = make_tensor_proto([str(width).encode(), str(height).encode(), png])
        metadata = create_image_metadata(display_name=None, description=None)
        return Summary(value=[Summary.Value(tag=tag, metadata=metadata, tensor=tensor)])

    return types.SimpleNamespace(
        Event=Event,
        RecordWriter=RecordWriter,
        Summary=Summary,
        histogram=histogram,
        image=image,
        scalar=scalar_pb,
        text=text_pb,
    )
