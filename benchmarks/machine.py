"""What a measurement ran on, and the file that keeps measurements."""

import os
import platform
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "RESULTS.md"
_TITLE = "# Results\n\nWritten by the programs of this folder (`--write`); each section says how to repeat it.\n"


def machine_lines(packages: Iterable[str]) -> list[str]:
    """Date, machine and versions as Markdown list items; nothing that names the machine."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s*(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    cores = len(os.sched_getaffinity(0))
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    return [
        f"- Date: {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        f"- Machine: {cores} cores, {cpu[1] if cpu else platform.machine()}, {int(memory[1]) / 2**20:.0f} GiB RAM",
        f"- Software: Python {platform.python_version()}, {versions}",
    ]


def write_section(title: str, text: str) -> None:
    """Put a section into RESULTS.md, in place of the one of the same title."""
    before = RESULTS.read_text() if RESULTS.is_file() else _TITLE
    section = f"## {title}\n\n{text.strip()}\n"
    pattern = re.compile(rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", re.MULTILINE | re.DOTALL)
    found = pattern.search(before)
    start, end = found.span() if found else (len(before), len(before))
    parts = [before[:start], section, before[end:]]
    RESULTS.write_text("\n\n".join(part.strip() for part in parts if part.strip()) + "\n")
