"""A thread that runs the engine, serving that of its cameras whose frame has waited longest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import threading

from offroad_seg_ros.camera_stream import CameraStream, Frame


class Worker:
    """Takes frames from the streams and hands them to `process`, one at a time."""

    def __init__(self, process: Callable[[CameraStream, Frame], None]) -> None:
        self._process = process
        self._streams: Sequence[CameraStream] = ()
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self, streams: Sequence[CameraStream]) -> None:
        """Start the thread."""
        self._streams = streams
        self._stopping = False
        self._wake.clear()
        self._thread = threading.Thread(target=self._run, name='segmentation', daemon=True)
        self._thread.start()

    def notify(self) -> None:
        """Say that a frame waits."""
        self._wake.set()

    def stop(self) -> None:
        """Let the frame in work end and join the thread. Harmless if it does not run."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait()
            self._wake.clear()
            while not self._stopping and self._serve_next():
                pass

    def _serve_next(self) -> bool:
        waiting = [
            (since_s, position)
            for position, stream in enumerate(self._streams)
            if (since_s := stream.waiting_since_s()) is not None
        ]
        if not waiting:
            return False
        stream = self._streams[min(waiting)[1]]
        frame = stream.take()
        if frame is not None:
            self._process(stream, frame)
        return True
