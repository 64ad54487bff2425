"""The loop after deployment as a story, told by the project's own commands: real servers, nginx and photos.

    python benchmarks/story.py --photos-dir FOLDER [--write]

A version in Production, drift, labels, retraining, gate, shadow, comparison, promotion; then a bad version is refused,
forced and rolled back. FOLDER holds fundus photos in `fundus/` and their `manifest.csv` (path, label, source, group, split).
Needs TensorFlow and nginx; leaves nothing behind. Ends with status 1 at the first step that does not do what its title says.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "TF_CPP_MIN_LOG_LEVEL": "3"}

from benchmarks.machine import machine_lines, write_section
from benchmarks.story_photos import Scale
from benchmarks.story_steps import STEPS, Step
from benchmarks.story_world import StoryError, World
from tests.support.servers import environment, serve_tracking

_NOTES = """
The haze is made: a grey veil of 45 % over validation photos. No version has learned from the photos that the versions are
compared on; the bundled one has chosen its epoch and its temperature by them, among others. The comparison's margin is 0.1,
since 340 labels cannot tell less; the recall of a class may fall by 0.1 (GATE_MAX_RECALL_LOSS) and must be
0.5 (GATE_MIN_RECALL) for the same reason. One good window clears the alarm.
"""


def tell(world: World, say: Callable[[str], None], steps: Sequence[Step] = STEPS) -> None:
    """Say each step's title and what came of it. Raises StoryError."""
    for number, step in enumerate(steps, start=1):
        say(f"{number}. {step.title}")
        start = time.monotonic()
        for line in step.act(world):
            say(f"     {line}")
        say(f"     ({time.monotonic() - start:.0f} s)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos-dir", type=Path, required=True, help="folder with manifest.csv and fundus/")
    parser.add_argument("--write", action="store_true", help="replace the section `Story` of benchmarks/RESULTS.md")
    asked = parser.parse_args()
    told: list[str] = []

    def say(line: str) -> None:
        print(line, flush=True)
        told.append(line)

    with tempfile.TemporaryDirectory() as name, serve_tracking(Path(name) / "tracking") as tracking:
        env = environment(MLFLOW_TRACKING_URI=tracking.url, MLFLOW_DISABLE_TELEMETRY="true", GATE_RECOMPUTE_AGREEMENT="true")
        try:
            with World(Path(name), asked.photos_dir, Scale(), env) as world:
                tell(world, say)
        except (StoryError, OSError, ValueError) as error:
            sys.exit(f"story.py: {error}")
    if asked.write:
        repeat = "- Repeat: `python benchmarks/story.py --photos-dir FOLDER --write`"
        head = [*machine_lines(["mlflow", "tensorflow"]), repeat, "", _NOTES.strip()]
        write_section("Story", "\n".join([*head, "", "```text", *told, "```"]))


if __name__ == "__main__":
    main()
