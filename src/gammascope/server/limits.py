"""What a server accepts and how long it takes: every number in one place, each of them an option.

``gammascope serve --limit files=4 --limit pixels=20000000`` changes them by name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from gammascope import settings
from gammascope.errors import RecipeError
from gammascope.imaging.decode import Limits as DecodingLimits

MIB = 2**20

FILE_BYTES = 32 * MIB
REQUEST_BYTES = 128 * MIB
JOB_BYTES = 512 * MIB
HELD_BYTES = 1024 * MIB
PIXELS = 50_000_000
FILES = 16
JOB_FILES = 256
QUEUE_FILES = 64
JOBS = 32
RECEIVE_SECONDS = 60.0
ANSWER_SECONDS = 60.0
JOB_SECONDS = 900.0
JOB_KEPT_SECONDS = 3600.0
BATCH_VIEWS = 32
BATCH_PIXELS = 16_000_000
BATCH_WAIT_SECONDS = 0.005
DECODERS = 2
DECODED_BYTES = 256 * MIB
RESULTS_KEPT = 100_000
RESULT_DAYS = 30.0
DRAIN_SECONDS = 0.0
DETECTORS = 4


@dataclass(frozen=True, slots=True)
class ServerLimits:
    """Bounds of one server.

    Attributes:
        file_bytes: Of one uploaded file.
        request_bytes: Of one request for immediate answers.
        job_bytes: Of one request for a job.
        held_bytes: Of all uploads in memory at once; further requests are refused for a while, and those that are
            larger by themselves for good.
        pixels: Width times height of one picture, as its header declares them.
        files: In one request for immediate answers.
        job_files: In one job.
        queue_files: Accepted and not yet answered; beyond, requests are told to come later.
        jobs: Accepted and not yet finished.
        receive_seconds: A request must have arrived whole by then.
        answer_seconds: After that, files without an answer are given up.
        job_seconds: The same for a job.
        job_kept_seconds: How long the results of a finished job can be fetched.
        batch_views: Views of several pictures gathered for the network before it starts.
        batch_pixels: Pictures in one batch hold no more, unless a single one does.
        batch_wait_seconds: How long a batch waits for pictures that are being decoded.
        decoders: Threads that decode.
        decoded_bytes: Decoding pauses while this much is decoded and waiting for the network.
        results_kept: Reports kept by content; the oldest go first.
        result_days: How long.
        drain_seconds: After a stop is asked for, how long new requests are still accepted while ``/readyz`` already
            says no; what a load balancer needs to notice.
        detectors: That answer side by side; each stays in memory, and each takes its own time.
    """

    file_bytes: int = FILE_BYTES
    request_bytes: int = REQUEST_BYTES
    job_bytes: int = JOB_BYTES
    held_bytes: int = HELD_BYTES
    pixels: int = PIXELS
    files: int = FILES
    job_files: int = JOB_FILES
    queue_files: int = QUEUE_FILES
    jobs: int = JOBS
    receive_seconds: float = RECEIVE_SECONDS
    answer_seconds: float = ANSWER_SECONDS
    job_seconds: float = JOB_SECONDS
    job_kept_seconds: float = JOB_KEPT_SECONDS
    batch_views: int = BATCH_VIEWS
    batch_pixels: int = BATCH_PIXELS
    batch_wait_seconds: float = BATCH_WAIT_SECONDS
    decoders: int = DECODERS
    decoded_bytes: int = DECODED_BYTES
    results_kept: int = RESULTS_KEPT
    result_days: float = RESULT_DAYS
    drain_seconds: float = DRAIN_SECONDS
    detectors: int = DETECTORS

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            least = 0 if item.name in ("batch_wait_seconds", "drain_seconds") else 1
            if not least <= value < float("inf"):
                raise ValueError(f"{item.name} = {value}: expected {least} or more.")
        if self.files > self.queue_files:
            raise ValueError(
                f"files = {self.files}, queue_files = {self.queue_files}: a request of that many files would "
                "never fit into the queue."
            )

    @property
    def largest_request(self) -> int:
        """Bytes of the largest request for immediate answers that is accepted: it has to fit into memory, too."""
        return min(self.request_bytes, self.held_bytes)

    @property
    def largest_job(self) -> int:
        """The same of a request for a job."""
        return min(self.job_bytes, self.held_bytes)

    @property
    def decoding(self) -> DecodingLimits:
        """The part that the decoder checks."""
        return DecodingLimits(max_bytes=self.file_bytes, max_pixels=self.pixels)


def limits_of(assignments: Sequence[str]) -> ServerLimits:
    """Return the defaults changed by ``name=value`` texts.

    >>> limits_of(["files=4"]).files
    4

    Raises:
        RecipeError: On an unknown name or an impossible value.
    """
    for assignment in assignments:
        if "=" not in assignment:
            raise RecipeError(f"--limit {assignment}: expected name=value, as in --limit files=4.")
    values = settings.override({}, list(assignments))
    if any(isinstance(value, dict) for value in values.values()):
        raise RecipeError(f"--limit {' '.join(assignments)}: expected name=value without a dot.")
    return settings.parse(ServerLimits, values, "--limit")
