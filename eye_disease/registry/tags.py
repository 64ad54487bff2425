"""Tags that this project sets in MLflow, and what each says."""

VERSION_TAGS = {
    "runtime": "What runs the network: `litert` or `keras`.",
    "classes": "In the order of the outputs, separated by commas.",
    "gate": "`passed` or `refused`, by the last validation.",
    "gate_reasons": "Why it was refused.",
    "gate_evidence_run": "Run with figures, plots and changed answers.",
    "gate_checked_at": "When, ISO 8601 UTC.",
    "forced": "It went to Production although the gate refused it: who, when, why.",
    "rolled_back": "It was rolled back from Production: who, when, why.",
    "retrained_from": "Version that it was trained on from.",
    "retrained_why": "Reason of the retraining.",
    "feedback_labels": "Labelled answers that it was trained with.",
    "feedback_labels_new": "Those that no retraining had used before.",
    "feedback_until": "Time of the newest label.",
    "comparison": "What the last comparison with a champion says.",
    "comparison_run": "Run with its figures.",
    "comparison_at": "When, ISO 8601 UTC.",
    "drift_status": "Verdict of the last window: `ok`, `warning`, `drift` or `insufficient_data`.",
    "drift_alarm": "`raised` after DRIFT_RAISE_AFTER bad windows, until DRIFT_CLEAR_AFTER good ones; else `none`.",
    "drift_checked_at": "When, ISO 8601 UTC.",
}
"""Of a model version"""
RUN_TAGS = {
    "drift_status": "As of the version; of the run `monitoring <model> <version>`.",
    "drift_alarm": "As of the version.",
    "drift_checked_at": "As of the version.",
    "drift_kind": "`prevalence` (other diseases), `acquisition` (other photos), or `none`.",
    "drift_since": "When the drift began, UTC, or `none`.",
    "drift_reference": "What the window was compared with.",
    "drift_command": "What DRIFT_ON_RAISE has started, and what came of it.",
    "drift_rollback": "What DRIFT_AUTO_ROLLBACK has done, and what came of it.",
    "gate.model": "Of a run `gate <model> <version>`: the model.",
    "gate.version": "The version that was judged.",
    "gate.basis": "What it was judged on.",
}
"""Of a run"""
