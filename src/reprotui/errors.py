"""Errors for the person who reads them: what was found, where, what was expected, what to do."""

SAME, DIFFERS, USAGE, CANNOT_TELL, WORKER_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
"""The exit codes of every command."""


class ReprotuiError(Exception):
    """Base of all errors that a command prints as one line; `exit_code` is what it then exits with."""

    exit_code = USAGE


class BadInputError(ReprotuiError):
    """Something the user gave cannot be used: an unknown name, a wrong type, a missing file."""


class CannotTellError(ReprotuiError):
    """The question has no answer from what is there: no trace, a newer or damaged one, nothing in common."""

    exit_code = CANNOT_TELL


class UntrustedError(CannotTellError):
    """The answer would take code that comes with a run of somebody else, and nobody said that it may be run."""


class WorkerFailedError(ReprotuiError):
    """A worker process failed for a reason that is not the user's input."""

    exit_code = WORKER_FAILED
