"""Who is at work, for the records."""

import getpass
import os
import socket

from mlflow.utils.credentials import read_mlflow_creds


def who() -> str:
    """The user name that MLflow's server checks, else the operating system's."""
    if name := read_mlflow_creds().username:
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return f"uid {os.getuid()}"


def who_and_where() -> str:
    """As `alice on ward-7`."""
    return f"{who()} on {socket.gethostname()}"
