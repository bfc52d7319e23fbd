"""A stop in two steps: say that no more is welcome, and a while later accept no more."""

from __future__ import annotations

import threading
from types import FrameType

import uvicorn

from gammascope.server.logs import log
from gammascope.server.service import Service


class DrainingServer(uvicorn.Server):
    """uvicorn's server, which tells load balancers before it stops listening.

    Args:
        config: uvicorn's.
        service: Told at once, so that ``/readyz`` says no.
        drain_seconds: Between the two steps; a second signal cuts it short.
    """

    def __init__(self, config: uvicorn.Config, service: Service, drain_seconds: float) -> None:
        super().__init__(config)
        self._service, self._drain_seconds = service, drain_seconds

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        log("stopping", signal=sig, queue_files=self._service.engine.accepted)
        first, self._service.stopping = not self._service.stopping, True
        if first and self._drain_seconds:
            timer = threading.Timer(self._drain_seconds, super().handle_exit, (sig, frame))
            timer.daemon = True
            timer.start()
        else:
            super().handle_exit(sig, frame)
