"""The loop after deployment as a story, step by step.

Each step does something by the project's own commands, looks at what came of it, and raises StoryError if that is not what its
title says; it returns what a reader should see of it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.story_photos import Photo
from benchmarks.story_world import NAME, World, expect
from tests.support.candidates import MIXED_UP, changed_package

FIRST_LOOK = 40
"""Labels at the first look at the comparison: fewer than COMPARE_MIN_LABELS"""
FORCED = "the clinic's new software needs it today"
ROLLED_BACK = "mistakes cataract for glaucoma"


def first_version(world: World) -> list[str]:
    said = world.register("register", "--stage", "Production")
    world.expect_in_production("1")
    tags = world.version("1").tags
    expect(tags["gate"] == "passed", f"The gate says: {tags}")
    return said.splitlines()


def good_traffic(world: World) -> list[str]:
    server = world.serve_production("champion")
    world.send(server, world.photos.clear, "clear")
    said = world.judge(server.url)
    expect(world.version("1").tags["drift_status"] == "ok", f"The job says: {said}")
    return [_right(world, "clear", world.photos.clear), *said]


def drift(world: World) -> list[str]:
    server, told, size = world.servers["champion"], [], len(world.photos.hazy) // 2
    for number, window in enumerate((world.photos.hazy[:size], world.photos.hazy[size:]), start=1):
        world.send(server, window, f"hazy-{number}")
        said = world.judge(server.url, drift=True)
        expect("acquisition shift" in said[0], f"The kind of drift is another: {said}")
        alarm = world.version("1").tags["drift_alarm"]
        expect(alarm == ("none", "raised")[number - 1], f"After {number} bad windows the alarm is {alarm}.")
        told += [_right(world, f"hazy-{number}", window), said[0], f"Alarm: {alarm}"]
    return told


def labels(world: World) -> list[str]:
    return [world.label("hazy-1", world.photos.labelled)]


def retraining(world: World) -> list[str]:
    photos = world.photos
    parameters = {"base": f"models:/{NAME}/Production", "manifest": photos.manifest, "photos": photos.folder}
    parameters |= {"feedback_photos": photos.clinic, "patients": photos.patients, "gate_data": photos.gate_manifest}
    parameters |= {"work": world.folder / "retraining", "why": "a hazy lens"}
    said = world.project("retrain", parameters | world.training)
    candidate = world.version("2")
    wanted = {"retrained_from": "1", "feedback_labels": str(len(photos.labelled)), "gate": "passed"}
    found = {key: candidate.tags.get(key) for key in wanted}
    expect(found == wanted and candidate.current_stage == "Staging", f"{found}, {candidate.current_stage}: {said}")
    world.expect_in_production("1")
    return [line for line in said.splitlines() if line.startswith((NAME, "epoch", f"{len(photos.labelled)} labelled"))]


def shadow(world: World) -> list[str]:
    photos, champion = world.photos.judged, world.servers["champion"]
    proxy = world.put_proxy_before(champion, world.serve_shadow("2"))
    world.send(proxy, photos, "judged")
    seen = {one["model_version"] for one in world.answers["judged"]}
    expect(seen == {"1"}, f"Clients were answered by the versions {seen}.")
    records = world.shadow_records(len(photos))
    expect({one["model_version"] for one in records} == {"2"}, "The shadow is not version 2.")
    sent = {hashlib.sha256(one.data).hexdigest() for one in photos}
    expect({one["image_sha256"] for one in records} == sent, "The shadow has had other photos.")
    return [f"{len(photos)} photos: clients were answered by version 1 only; version 2 has answered the same on record only."]


def comparison(world: World) -> list[str]:
    photos = world.photos.judged
    told = [world.label("judged", photos[:FIRST_LOOK])]
    early, why = world.compare()
    expect(early == "not enough evidence yet" and f"{FIRST_LOOK} of the 50 labels" in why[0], f"{early}: {why}")
    told += [f"Decision: {early}", *why, world.label("judged", photos)]
    world.decision, why = world.compare()
    return [*told, f"Decision: {world.decision}", *why]


def second_version(world: World) -> list[str]:
    expect(world.decision != "keep", "The comparison says to keep version 1: the story ends here.")
    reason = f"shadow on {len(world.photos.judged)} labelled photos: {world.decision}"
    said = world.project("promote", {"name": NAME, "version": 2, "stage": "Production", "reason": reason})
    world.expect_in_production("2")
    world.stop("proxy", "shadow", "champion")
    return said.splitlines()


def drift_clears(world: World) -> list[str]:
    server = world.serve_production("champion")
    world.send(server, world.photos.clear, "clear")
    seen = {one["model_version"] for one in world.answers["clear"]}
    expect(seen == {"2"}, f"Clients were answered by the versions {seen}.")
    said = world.judge(server.url)
    first, second = (world.version(number).tags for number in "12")
    expect(first["drift_alarm"] == "none", f"The alarm on version 1 is not cleared: {said}")
    expect(second["drift_status"] in ("ok", "warning"), f"Version 2: {said}")
    expect(second["drift_alarm"] == "none", f"There is an alarm on version 2: {said}")
    return [_right(world, "clear", world.photos.clear), *said, "Alarm on version 1: none"]


def bad_version_refused(world: World) -> list[str]:
    package = changed_package(world.folder / "mistaken", classes=MIXED_UP)
    said = world.register("register", "--package", str(package), "--stage", "Production", status=1)
    refused = world.version("3")
    expect((refused.tags["gate"], refused.current_stage) == ("refused", "Staging"), f"{refused.tags}: {said}")
    expect("recall of cataract" in refused.tags["gate_reasons"], f"Refused for {refused.tags['gate_reasons']}")
    world.expect_in_production("2")
    return [f"Tags of version 3: gate {refused.tags['gate']}", *refused.tags["gate_reasons"].split("; ")]


def bad_version_forced(world: World) -> list[str]:
    said = world.register("promote", "--version", "3", "--stage", "Production", "--force", "--reason", FORCED)
    world.expect_in_production("3")
    expect("forced" in world.version("3").tags, "Nothing on version 3 says that it was forced.")
    return said.splitlines()


def rolled_back(world: World) -> list[str]:
    said = world.register("rollback", "--version", "3", "--reason", ROLLED_BACK)
    world.expect_in_production("2")
    found = world.version("3")
    expect(found.current_stage == "Archived" and ROLLED_BACK in found.tags["rolled_back"], f"Version 3: {found.tags}")
    return said.splitlines()


def history(world: World) -> list[str]:
    told = world.register("history").splitlines()
    for number in ("2", "3"):
        moment = world.moments[number]
        said = world.register("history", "--at", moment.isoformat())
        expect(f"Production: version {number} since" in said, f"At {moment} it was version {number}; the history says: {said}")
        told.append(f"--at {moment:%Y-%m-%dT%H:%M:%SZ}: {said.splitlines()[-1]}")
    return told


def _right(world: World, pool: str, photos: Sequence[Photo]) -> str:
    right = sum(given["predicted_class"] == one.label for given, one in zip(world.answers[pool], photos, strict=True))
    return f"{right} of {len(photos)} answers are right."


@dataclass(frozen=True)
class Step:
    """A chapter."""

    title: str
    act: Callable[[World], list[str]]


STEPS = (
    Step("Version 1, the bundled model, passes the gate and goes to Production", first_version),
    Step("Ordinary photos: the drift job says ok", good_traffic),
    Step("A lens gets hazy: drift, and after two windows an alarm", drift),
    Step("Specialists label the photos of the first of these windows", labels),
    Step("Retraining makes version 2; it passes the gate and waits in Staging", retraining),
    Step("The lens is clean again. Version 2 is the shadow of version 1 behind nginx", shadow),
    Step("The two are compared, as labels come in", comparison),
    Step("A person promotes version 2", second_version),
    Step("Version 2 answers ordinary photos: no drift, and the alarm on version 1 is over", drift_clears),
    Step("Version 3 has two classes mixed up: the gate refuses it", bad_version_refused),
    Step("Version 3 is forced into Production, with a reason", bad_version_forced),
    Step("Version 3 is rolled back", rolled_back),
    Step("The history knows all of it", history),
)
