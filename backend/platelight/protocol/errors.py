"""The one error family of Platelight: every failure a user can meet is a sentence and a remedy."""

from __future__ import annotations


class PlatelightError(Exception):
    """A failure that can be told to a person in one sentence.

    Args:
        sentence: what went wrong, naming the file, plane or peer concerned.
        remedy: what the person can do about it.

    ``code`` is stable and for programs; ``exit_code`` is what the command line returns.
    """

    code = "failed"
    exit_code = 1

    def __init__(self, sentence: str, remedy: str = "") -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}".strip()


class InputError(PlatelightError):
    """The caller's file or parameter is at fault."""

    code = "bad_input"
    exit_code = 2


class NoSubjectError(InputError):
    """Matting found nothing that could be a subject."""

    code = "no_subject"


class ConnectionFailed(PlatelightError):  # noqa: N818  (reads as the sentence that it is)
    """No server answers at the endpoint, or it went away."""

    code = "no_server"
    exit_code = 2


class AccessDenied(PlatelightError):  # noqa: N818
    """The server's key is not the expected one, or it does not know ours."""

    code = "access_denied"
    exit_code = 2


class VersionSkew(PlatelightError):  # noqa: N818
    """Client and server speak different protocol versions."""

    code = "version_skew"
    exit_code = 2


class Cancelled(PlatelightError):  # noqa: N818
    """The job was cancelled by the user."""

    code = "cancelled"
    exit_code = 130


class JobFailed(PlatelightError):  # noqa: N818
    """The worker failed on a job; the log of the server has the traceback."""

    code = "job_failed"


class Poisoned(JobFailed):
    """The job stopped its worker three times, so it is not tried again."""

    code = "poisoned"


class TimedOut(PlatelightError):  # noqa: N818
    """The caller's time ran out; the job goes on, and asking again finds its result."""

    code = "timed_out"


class UnknownJob(PlatelightError):  # noqa: N818
    """The server has no such job for this client: never submitted, or removed since."""

    code = "unknown_job"


class Busy(PlatelightError):  # noqa: N818
    """The server cannot take more now; ``retry_after`` is in seconds."""

    code = "busy"

    def __init__(self, sentence: str, remedy: str = "", retry_after: float = 1.0) -> None:
        super().__init__(sentence, remedy)
        self.retry_after = min(60.0, max(0.2, retry_after))


class StoreFull(PlatelightError):  # noqa: N818
    """The server has no room on disk for the planes."""

    code = "store_full"


class ProtocolError(PlatelightError):
    """One side broke the rules of the wire."""

    code = "protocol"


class MalformedMessage(ProtocolError):  # noqa: N818
    """Frames that are no message."""

    code = "malformed"


class InsecureKeys(PlatelightError):  # noqa: N818
    """A key file or folder that others can read, or that is no key."""

    code = "insecure_keys"
    exit_code = 2


def error_from_code(code: str, sentence: str, remedy: str = "") -> PlatelightError:
    """Return the member of the family that has this code (the base class where none has): how errors travel."""
    pending: list[type[PlatelightError]] = [PlatelightError]
    while pending:
        kind = pending.pop()
        if kind.code == code:
            return kind(sentence, remedy)
        pending.extend(kind.__subclasses__())
    error = PlatelightError(sentence, remedy)
    error.code = code
    return error
