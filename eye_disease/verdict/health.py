"""Result of a health probe of the served model."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Health:
    """What a probe found."""

    up: bool
    reason: str | None
    """Why it is down, a sentence; None if it is up."""
    response_time_ms: float | None
    """Of /ping; None if that gave no answer."""
    model_version: str | None
    """The version that answered the canary; None if none did."""
    wrong: bool = False
    """Whether the version itself is at fault: it has answered its own photo, and wrongly. A server that is down, slow or
    refuses the photo (by a setting, by a proxy) says nothing of the version"""
