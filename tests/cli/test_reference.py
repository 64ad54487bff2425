"""docs/reference.md is what the code says, and says all of it."""

import inspect
import re

from eye_disease.cli import reference
from eye_disease.cli.main import COMMANDS
from eye_disease.monitoring import publish
from eye_disease.monitoring.metrics import WINDOW_METRICS
from eye_disease.registry.tags import RUN_TAGS, VERSION_TAGS
from model_code import schema
from model_code.image_error import ERROR_CODES
from tests.support.servers import PROJECT

PAGE = reference.reference()
SOURCES = {path: path.read_text() for top in ("eye_disease", "model_code") for path in (PROJECT / top).rglob("*.py")}


def test_the_committed_page_is_the_generated_one() -> None:
    assert (PROJECT / "docs" / "reference.md").read_text() == PAGE, "Run `python -m eye_disease.cli.reference`."


def test_every_class_of_settings_is_on_it() -> None:
    classes = {name for text in SOURCES.values() for name in re.findall(r"^class (\w+)\(Settings\):", text, flags=re.M)}
    assert classes == {kind.__name__ for _, kind in reference._SETTINGS}
    names = {name for text in SOURCES.values() for name in re.findall(r'"([A-Z]+_[A-Z0-9_]+)",? ', text)}
    read = {name for name in names if re.match(r"(DRIFT|GATE|COMPARE|RETRAIN|MAX|INFERENCE|MONITORING|MODEL)_", name)}
    assert sorted(name for name in read if f"| `{name}` |" not in PAGE) == []


def test_the_other_settings_are_read_by_the_scripts_or_the_commands() -> None:
    scripts = SOURCES[PROJECT / "eye_disease" / "common" / "settings_file.py"]
    scripts += (PROJECT / "start_mlflow.sh").read_text() + (PROJECT / "scripts" / "environment.sh").read_text()
    assert [name for name, _, _ in reference._ELSEWHERE if name not in scripts] == []


def test_every_command_has_its_options_and_a_sentence() -> None:
    for word in COMMANDS:
        section = PAGE.split(f"\n### {word}\n")[1].split("\n#")[0].strip()
        assert section and not section.startswith("|"), word
        assert "| `--" in section or word in {"watch", "pages", "env"}, word
    unexplained = [line for line in PAGE.splitlines() if line.startswith("| `--") and line.endswith("|  |")]
    assert unexplained == []


def test_every_column_field_code_and_tag_has_a_meaning() -> None:
    names = [*schema.REQUEST_COLUMNS, *schema.ANSWER_COLUMNS, *schema.PARAMS, *ERROR_CODES, *WINDOW_METRICS]
    names += [*schema.FACT_FIELDS, *schema.VERSION_FIELDS, *schema.LOG_FIELDS, *VERSION_TAGS, *RUN_TAGS]
    assert [name for name in names if not re.search(rf"^\| `{re.escape(name)}` \|.* \w", PAGE, flags=re.M)] == []


def test_every_metric_of_a_window_is_on_it() -> None:
    written = inspect.getsource(publish.window_metrics) + inspect.getsource(publish._reported)
    names = set(re.findall(r'^ +"(\w+)": ', written, flags=re.M)) | set(re.findall(r'\{"(\w+)": ', written))
    documented = {name for name in WINDOW_METRICS if not name.endswith(("_low", "_high")) and not name.startswith("drift/")}
    assert names == documented


def test_every_tag_is_set_somewhere() -> None:
    text = "\n".join(text for path, text in SOURCES.items() if path.name != "tags.py")
    unused = [name for name in {**VERSION_TAGS, **RUN_TAGS} if f'"{name}"' not in text]
    assert sorted(unused) == ["drift_command", "drift_rollback"]  # these two are `drift_<step>` of an action
    assert 'f"drift_{request.step}"' in text
