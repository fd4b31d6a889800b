"""What a person does in the Prefect UI: real server, real worker, real browser, a small town.

In the order of the file: the later ones stand on the run that the first one makes.
"""

from __future__ import annotations

import json
import os
import re
import uuid
from base64 import b64encode
from datetime import timedelta
from pathlib import Path

import psutil
import pytest
from PIL import Image
from prefect.client.schemas import filters
from prefect.client.schemas.schedules import IntervalSchedule

from storage.store import ledger
from storage.store.ledger import RunRecord
from storage.store.store import Store
from tests.ui.conftest import LIMIT_MS
from tests.ui.served import Served, locked, wait_until

if "CI" not in os.environ:
    pytest.importorskip("playwright.sync_api", reason="no playwright to drive a browser with: make install")
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.ui

RUN_LIMIT_S = 480.0  # half a minute on an idle machine
PRESSES = 5
SHOWN = (
    "reconstruct-artifacts", "reconstruct-models", "select-artifacts", "select-overlaps", "select-tuples",
    "finetune-epochs", "finetune-curves", "finetune-hard-negatives", "whiten-artifacts",
    "evaluate-results", "evaluate-rankings", "report",
)  # fmt: skip
"""Some of what the page of a run of everything shows."""


def open_deployment(page: Page, name: str) -> None:
    page.goto("/v2/deployments")
    page.get_by_role("row", name=name).get_by_role("link", name=name, exact=True).first.click()
    expect(page.get_by_role("button", name="Run", exact=True)).to_be_visible()


def press_run(page: Page, how: str) -> None:
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_role("menuitem", name=how).click()


def custom_run(page: Page, name: str) -> Locator:
    """The form of a deployment; its button that starts the run."""
    open_deployment(page, name)
    press_run(page, "Custom run")
    submit = page.get_by_role("button", name="Submit")
    expect(submit).to_be_visible()
    return submit


def start(page: Page, served: Served, name: str, button: Locator) -> uuid.UUID:
    """Press the button that starts a run, and go to the run's page; the run's id.

    A form that is still being filled in swallows the press: without a run it is pressed again.
    """
    before = len(served.runs(name))
    view = page.get_by_role("button", name="View run")
    for _ in range(PRESSES):
        button.click()
        try:
            expect(view).to_be_visible(timeout=LIMIT_MS / PRESSES)
            break
        except AssertionError:
            if len(served.runs(name)) > before:
                break
    view.click()
    page.wait_for_url(re.compile("/flow-run/[0-9a-f-]{36}"))
    return run_of(page)


def run_of(page: Page) -> uuid.UUID:
    """The run that the page shows."""
    found = re.search("/flow-run/([0-9a-f-]{36})", page.url)
    assert found is not None, page.url
    return uuid.UUID(found[1])


def wait_for_state(page: Page, served: Served, state: str) -> None:
    """Wait for the run of the page to be in a state, then for the page to say so.

    In between the page is left: without a graphics card the pictures that move on it take a whole core.
    """
    address = page.url
    run = run_of(page)
    page.goto("about:blank")
    wait_until(lambda: served.run(run).state_name == state, RUN_LIMIT_S, f"the run is {state}")
    page.goto(address)
    badge = page.get_by_role("main").get_by_text(state, exact=True).first
    expect(badge).to_be_visible()


def turn(switch: Locator, on: bool) -> None:
    """Press a switch until it is on or off: a busy page swallows a press."""
    for _ in range(PRESSES):
        if switch.is_checked() != on:
            switch.click()
        try:
            expect(switch).to_be_checked(checked=on, timeout=LIMIT_MS / PRESSES)
            return
        except AssertionError:
            continue
    expect(switch).to_be_checked(checked=on)


def choose(page: Page, label: str, option: str) -> None:
    page.get_by_label(label).click()
    page.get_by_role("option", name=option, exact=True).click()


def menu(page: Page, served: Served, item: str) -> None:
    """An entry of the run's menu, and yes to what it asks, until the server knows: a page that is left before
    takes its request with it."""
    run = run_of(page)
    before = served.run(run).state_id
    page.get_by_role("main").get_by_role("button", name="Open menu").click()
    page.get_by_role("menuitem", name=item).click()
    page.get_by_role("alertdialog").get_by_role("button", name=item).last.click()
    wait_until(lambda: served.run(run).state_id != before, 60, f"the server knows of {item}")


def open_artifact(page: Page, key: str) -> None:
    """From the run's tab of artifacts to what the newest one of this key shows."""
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_role("main").get_by_text(key, exact=True).click()
    page.get_by_role("link", name=re.compile("^[0-9a-f]{8}$")).first.click()


def latest(served: Served) -> RunRecord:
    return ledger.load(Store.open(served.store), "latest")


def described(record: RunRecord) -> int:
    """Networks times scales, each with a pcaw and an lw: 2 where the training kept the network as it was."""
    found = len({each.key for each in record.refs_of("whiten")}) // 2
    assert found in (2, 4)
    return found


def artifacts(served: Served, run: uuid.UUID) -> dict[str, str]:
    """Key of each artifact of a flow run -> what it shows, as JSON."""
    mine = filters.ArtifactFilter(flow_run_id=filters.ArtifactFilterFlowRunId(any_=[run]))
    with served.client() as client:
        found = client.read_artifacts(artifact_filter=mine, limit=200)
    return {str(each.key): json.dumps([each.type, each.description, each.data]) for each in found if each.key}


def test_quick_run_of_everything(page: Page, served: Served) -> None:
    open_deployment(page, "end-to-end")
    press_run(page, "Quick run")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("store")).to_have_value(str(served.store))
    run = start(page, served, "end-to-end", dialog.get_by_role("button", name="Run", exact=True))
    wait_for_state(page, served, "Completed")
    page.get_by_role("tab", name="Artifacts").click()
    for key in SHOWN:
        expect(page.get_by_role("main").get_by_text(key, exact=True)).to_be_visible()
    record = latest(served)
    assert record.status == "completed" and record.refs_of("evaluation")
    assert all(len(each) < 1_000_000 for each in artifacts(served, run).values())
    open_artifact(page, "evaluate-results")
    expect(page.get_by_role("main").get_by_text("off-the-shelf").first).to_be_visible()
    page.goto(f"/v2/runs/flow-run/{run}")
    open_artifact(page, "report")
    link = page.get_by_role("link", name=f"Report of run {record.id}")
    expect(link).to_be_visible()
    page.goto(str(link.get_attribute("href")))
    expect(page).to_have_title(f"Run {record.id} of {record.collection}")


def test_custom_run_of_one_stage(page: Page, served: Served) -> None:
    before = latest(served)
    submit = custom_run(page, "whiten")
    expect(page.get_by_label("from_run")).to_have_value("latest")
    expect(page.get_by_text("Working Size")).to_have_count(0)  # no option of another stage
    choose(page, "Positives", "m2")
    run = start(page, served, "whiten", submit)
    wait_for_state(page, served, "Completed")
    tasks = served.tasks(run)
    new = described(before)  # lw; pcaw takes no positives
    assert tasks["describe_photographs", "Cached"] == 4
    assert tasks["learn_whitening", "Completed"] == new and tasks["learn_whitening", "Cached"] == 8 - new
    assert sum(tasks.values()) == 12
    page.get_by_role("tab", name="Task Runs").click()
    shown = rf"^(?=.*\b{new} Completed)(?=.*\b{12 - new} Cached)"  # in whatever order
    expect(page.get_by_text(re.compile(shown))).to_be_visible()
    page.get_by_role("tab", name="Artifacts").click()
    expect(page.get_by_role("main").get_by_text("whiten-artifacts", exact=True)).to_be_visible()
    open_artifact(page, "stale")
    old = before.refs_of("evaluation")[0].path
    expect(page.get_by_role("main").get_by_text(old).first).to_be_visible()
    after = latest(served)
    assert after.from_run == before.id and after.options["whitening"]["positives"] == "m2"
    assert after.refs_of("training_set") == before.refs_of("training_set")
    assert after.options["description"] == before.options["description"]  # what was left empty


def test_a_failed_run_goes_on_after_retry(page: Page, served: Served) -> None:
    """Something stands where the whitenings go; after the descriptors nothing can be written."""
    folder, aside = served.store / "whiten", served.store / ".whiten-aside"
    folder.rename(aside)
    folder.write_text("in the way")
    submit = custom_run(page, "whiten")
    page.get_by_label("Image Size").fill("128")
    run = start(page, served, "whiten", submit)
    wait_for_state(page, served, "Failed")
    first, new = served.tasks(run), described(latest(served))
    assert first["describe_photographs", "Completed"] == new and first["learn_whitening", "Failed"] == 1
    folder.unlink()
    aside.rename(folder)
    menu(page, served, "Retry")
    wait_for_state(page, served, "Completed")
    again = served.tasks(run) - first
    assert served.run(run).run_count == 2
    assert again["learn_whitening", "Completed"] == 2 * new
    assert again["describe_photographs", "Completed"] == 0  # they were not made again


def test_a_schedule_that_is_switched_on_fires(page: Page, served: Served) -> None:
    deployment = served.deployment("end-to-end")
    with served.client() as client:
        schedule = IntervalSchedule(interval=timedelta(seconds=45))
        client.create_deployment_schedules(deployment.id, [(schedule, False)])
    open_deployment(page, "end-to-end")
    switch = page.get_by_role("switch", name="toggle Every 45 seconds")
    expect(switch).not_to_be_checked()
    assert scheduled(served) == []
    turn(switch, on=True)
    wait_until(lambda: bool(scheduled(served, "Completed")), 360, "a scheduled run is completed")
    turn(switch, on=False)
    page.goto(f"/v2/runs/flow-run/{scheduled(served, 'Completed')[0]}")
    wait_for_state(page, served, "Completed")
    first = served.runs("end-to-end")[-1]
    shown, again = (artifacts(served, run) for run in (first.id, scheduled(served, "Completed")[0]))
    assert set(shown) - {"report"} == set(again) - {"report", "stale"}
    assert {key for key in shown if shown[key] != again[key]} <= {"report"}  # all of it was cached
    busy = ("Scheduled", "Late", "AwaitingConcurrencySlot", "Pending", "Running")
    wait_until(lambda: not scheduled(served, *busy), 180, "switched off, no further run is waiting")


def scheduled(served: Served, *states: str) -> list[uuid.UUID]:
    """Runs of end-to-end that a schedule started, in one of these states; none: any state."""
    found = [run for run in served.runs("end-to-end") if run.auto_scheduled]
    return [run.id for run in found if not states or run.state_name in states]


def test_cancel_leaves_nothing_behind(page: Page, served: Served, tmp_path: Path) -> None:
    """A run with large photographs, whose features take long, is cancelled while children compute."""
    for path in sorted(served.photos.iterdir())[:24]:
        Image.open(path).resize((2560, 1920)).save(tmp_path / path.name)
    served.fill_form(
        "end-to-end",
        {
            "photos": str(tmp_path),
            "options": {"reconstruction": {"working": {"working_size": 2560}}},
        },
    )
    submit = custom_run(page, "end-to-end")
    run = start(page, served, "end-to-end", submit)
    wait_until(lambda: bool(children(served)), 120, "native children compute")
    busy = children(served)
    menu(page, served, "Cancel")
    wait_for_state(page, served, "Cancelled")
    wait_until(lambda: not any(child.is_running() for child in busy), 30, "the children have ended")
    wait_until(lambda: len(served.below()) == UP, 30, "only up, its server and its worker are left")
    assert locked(served.store) == []
    commands = served.store / "prefect" / "commands"
    wait_until(lambda: not list(commands.glob("flow-run-*")), 60, "the run's process is no longer looked for")
    wait_until(
        lambda: not any(state in ("Running", "Pending") for _, state in served.tasks(run)),
        60,
        "no task run is shown as running",
    )


def test_the_key_is_in_no_other_file_and_no_command_line(served: Served) -> None:
    """After all these runs: in no log, record, artifact or database."""
    forms = (served.key.encode(), b64encode(served.key.encode()))
    files = [path for path in served.store.rglob("*") if path.is_file()]
    held = [path for path in files if any(form in path.read_bytes() for form in forms)]
    assert held == [served.store / "prefect" / "key"] and held[0].stat().st_mode & 0o777 == 0o600
    for process in served.below():
        assert not any(form.decode() in " ".join(process.cmdline()) for form in forms)


UP = 3
"""Processes of `up` while nothing runs: itself, server, worker."""


def children(served: Served) -> list[psutil.Process]:
    """Child processes that compute features or models."""
    found = []
    for process in served.below():
        try:
            if any("sfm." in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
