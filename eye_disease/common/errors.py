"""Errors that a command reports in a sentence, with their exit statuses; anything else is a bug and keeps its traceback."""


class EyeDiseaseError(Exception):
    """What cannot be done, in a sentence for whoever asked for it. A command prints it and ends with `exit_status`.

    Anything else that leaves a command, but what the operating system says (OSError), is a mistake of this program and keeps
    its traceback.
    """

    exit_status = 1


class UserError(EyeDiseaseError, ValueError):
    """What was given, or found in a file, is not what was expected; the message says what to change."""


class BusyError(EyeDiseaseError):
    """Another run is in progress."""

    exit_status = 75
    """EX_TEMPFAIL of sysexits.h: try again later."""


class TrackingUnavailableError(EyeDiseaseError):
    """MLflow's server does not answer now, answers too slowly, or cannot do what it was asked: try again later."""

    exit_status = 69
    """EX_UNAVAILABLE of sysexits.h."""


class TrackingMissingError(TrackingUnavailableError):
    """MLflow's server holds nothing of that name."""


class TrackingRefusedError(TrackingUnavailableError):
    """MLflow's server will not take this, however often it is sent."""
