"""The page in a browser: keys, playback, settings and error messages.

Skipped without Chromium (Debian's `chromium`) and the package `playwright`.
"""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, to drive a browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, to show the page")
expect = playwright.expect

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
#: Timeout in milliseconds; long, because the machine may be busy.
TIMEOUT = 15_000
PICTURE = "canvas => canvas.toDataURL()"


@pytest.fixture(scope="module")
def browser() -> Iterator:
    expect.set_options(timeout=TIMEOUT)
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def server(world, serve) -> Iterator:
    with serve(world, steps=1, fps=60) as server:
        yield server


@pytest.fixture
def page(browser, server) -> Iterator:
    """The page, ready to play; errors of its script fail the test."""
    context = browser.new_context()
    context.set_default_timeout(TIMEOUT)
    page, failures = context.new_page(), []
    page.on("pageerror", lambda error: failures.append(error))
    page.goto(server.url)
    expect(page.get_by_text("Press an action key, or Play")).to_be_visible()
    yield page
    context.close()
    assert not failures


def picture(page) -> str:
    return page.locator("#stage").evaluate(PICTURE)


def frame(page):
    return page.locator("#frame")


def wait_for_frame(page, number: int) -> None:
    while (current := int(frame(page).text_content())) < number:
        expect(frame(page)).not_to_have_text(str(current))


def sent_actions(page) -> list:
    """List that collects the actions of all later steps."""
    sent = []
    page.on("request", lambda r: r.url.endswith("/step") and sent.append(r.post_data_json["action"]))
    return sent


def test_pressed_keys_generate_frames(page):
    beginning, sent = picture(page), sent_actions(page)
    page.keyboard.down("ArrowLeft")
    wait_for_frame(page, 2)
    assert picture(page) != beginning
    page.keyboard.down("Space")
    expect(page.get_by_text("Action: left fire")).to_be_visible()
    wait_for_frame(page, int(frame(page).text_content()) + 2)
    page.keyboard.up("Space")
    page.keyboard.up("ArrowLeft")
    wait_for_frame(page, int(frame(page).text_content()) + 2)
    page.keyboard.press("Escape")
    moves = [action["move"] for action in sent]
    assert sorted(set(moves), key=moves.index) == [3, 5, 0]
    expect(page.locator("#measured-fps")).to_have_text("–")


def test_pause_stops_and_frames_are_counted_and_timed(page):
    page.get_by_role("button", name="Play").click()
    expect(page.locator("#measured-fps")).to_have_text(re.compile(r"\d+\.\d"))
    expect(page.locator("#latency")).to_have_text(re.compile(r"\d+ ms"))
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused")).to_be_visible()
    page.evaluate("() => last")  # a request may have been on its way
    paused = picture(page), frame(page).text_content()
    page.evaluate("() => new Promise(done => setTimeout(done, 100))")
    assert (picture(page), frame(page).text_content()) == paused


def test_step_undo_and_reset(page):
    beginning = picture(page)
    page.keyboard.press("Period")
    expect(frame(page)).to_have_text("1")
    first = picture(page)
    page.keyboard.press("Period")
    expect(frame(page)).to_have_text("2")
    second = picture(page)
    page.keyboard.press("Backspace")
    expect(frame(page)).to_have_text("1")
    assert picture(page) == first
    page.get_by_role("button", name="Step").click()
    expect(frame(page)).to_have_text("2")
    assert picture(page) == second
    page.keyboard.press("Enter")
    expect(frame(page)).to_have_text("0")
    assert picture(page) == beginning != first != second
    expect(page.get_by_role("button", name="Undo")).to_be_disabled()


def test_settings_reach_the_server(page):
    page.get_by_label("Sampling steps K").select_option("4")
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Starting clip").select_option("clip 2")
    with page.expect_request("**/reset") as reset:
        page.get_by_role("button", name="Reset").click()
    assert reset.value.post_data_json == {"seed": 7, "steps": 4, "clip": 1}


def test_typing_into_a_field_sends_no_action(page):
    sent = sent_actions(page)
    page.get_by_label("Seed").press("Backspace")
    page.get_by_label("Seed").press("1")
    page.get_by_label("Seed").press("ArrowUp")
    expect(page.get_by_text("Press an action key, or Play")).to_be_visible()
    assert not sent
    assert page.get_by_label("Seed").input_value() == "2"


def test_recording_is_shown_and_its_actions_are_used(page):
    page.get_by_label("Show the recording").check()
    recording = page.locator("#recording")
    expect(recording).to_be_visible()
    page.wait_for_function("() => stage.toDataURL() === recording.toDataURL()")
    page.get_by_label("Use the recorded actions").check()
    page.get_by_role("button", name="Play").click()
    expect(page.get_by_role("alert")).to_contain_text("The recording has ended")
    expect(frame(page)).to_have_text("4")
    assert recording.evaluate(PICTURE) != picture(page)


def test_pointer_holds_an_action(page):
    button = page.get_by_role("button", name="right")
    sent = sent_actions(page)
    button.hover()
    page.mouse.down()
    wait_for_frame(page, 1)
    expect(page.get_by_text("Action: right")).to_be_visible()
    page.mouse.up()
    expect(page.get_by_text("Action: none")).to_be_visible()
    assert sent[0] == {"move": 2}


def pressed(page, state: bool) -> None:
    expect(page.get_by_role("button", name="Autopilot")).to_have_attribute("aria-pressed", str(state).lower())


def test_autopilot_plays_until_an_action_key_is_pressed(page):
    sent = sent_actions(page)
    expect(page.get_by_text("The autopilot is the policy trained in imagination.")).to_be_visible()
    page.keyboard.press("Comma")
    pressed(page, True)
    wait_for_frame(page, 2)
    expect(page.locator("#sent")).to_have_text(re.compile("Autopilot: (none|(left|right)? ?(fire)?)$"))
    assert set(sent) == {"policy"}
    page.keyboard.down("ArrowLeft")
    pressed(page, False)
    wait_for_frame(page, int(frame(page).text_content()) + 2)
    assert sent[-1] == {"move": 3}
    page.keyboard.up("ArrowLeft")
    expect(page.get_by_text("Action: none")).to_be_visible()
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Autopilot").click()
    pressed(page, True)
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_time_waits_for_a_key_where_no_action_is_idle(browser, turns, serve):
    page = browser.new_page(viewport={"width": 390, "height": 800})
    page.set_default_timeout(TIMEOUT)
    sent = sent_actions(page)
    with serve(turns, steps=1, fps=60) as server:
        page.goto(server.url)
        expect(page.get_by_text("Press an action key", exact=True)).to_be_visible()
        expect(page.get_by_role("button", name="Play")).to_be_disabled()
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        for number, key in enumerate(["ArrowUp", "ArrowLeft", "Digit1"], 1):
            page.keyboard.press(key)
            expect(frame(page)).to_have_text(str(number))
        expect(page.get_by_text("Action: pick up")).to_be_visible()
        for number in (4, 5):  # the second is a repetition, as the key is held
            page.keyboard.down("ArrowUp")
            expect(frame(page)).to_have_text(str(number))
        page.keyboard.up("ArrowUp")
        page.keyboard.press("Period")
        page.keyboard.press("Escape")
        page.evaluate("() => ($('error').hidden = false)")  # a key tries again after an error
        page.keyboard.press("ArrowUp")
        expect(page.get_by_role("alert")).to_be_hidden()
        page.keyboard.press("Comma")
        wait_for_frame(page, 8)
        page.keyboard.press("ArrowRight")
        pressed(page, False)
        page.evaluate("() => last")
        assert [action["move"] for action in sent if action != "policy"] == [2, 0, 3, 2, 2, 2, 1]
        stopped = frame(page).text_content()
        page.evaluate("() => new Promise(done => setTimeout(done, 100))")
        expect(frame(page)).to_have_text(stopped)
        page.get_by_label("Real time").check()
        page.get_by_role("button", name="Play").click()
        wait_for_frame(page, int(stopped) + 2)
        assert sent[-1] == {"move": 0}
        expect(page.get_by_text("Action: left")).to_be_visible()
        page.keyboard.down("ArrowUp")  # the checkbox has not kept the focus
        expect(page.get_by_text("Action: forward")).to_be_visible()
    page.close()


def test_a_model_without_an_agent_says_why_there_is_no_autopilot(browser, world, serve):
    page = browser.new_page()
    with serve(replace(world, phase="dynamics")) as server:
        page.goto(server.url)
        expect(page.get_by_text("There is no autopilot, because this model has no trained agent")).to_be_visible()
        expect(page.get_by_role("button", name="Autopilot")).to_be_disabled()
    page.close()


def test_every_control_has_an_accessible_name(page):
    names = page.locator("button, input, select, canvas").evaluate_all(
        "all => all.map(e => e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim() || '')"
    )
    assert len(names) > 12
    assert all(names)


def test_reset_replaces_a_closed_session(page, server):
    page.keyboard.press("Period")
    expect(frame(page)).to_have_text("1")
    server.api.close()
    page.get_by_role("button", name="Reset").click()
    expect(frame(page)).to_have_text("0")
    expect(page.get_by_role("alert")).to_be_hidden()
    page.keyboard.press("Period")
    expect(frame(page)).to_have_text("1")
    server.api.close()
    page.keyboard.press("Period")
    expect(page.get_by_role("alert")).to_contain_text("This session has been closed")
    page.get_by_role("button", name="Reset").click()
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(frame(page)).to_have_text("0")
    page.keyboard.press("Period")
    expect(frame(page)).to_have_text("1")


def test_leaving_the_page_closes_its_session(page, server):
    (name,) = [name for name in server.api.sessions if name == page.evaluate("session")]
    page.goto("about:blank")
    deadline = time.monotonic() + TIMEOUT / 1000
    while name in server.api.sessions and time.monotonic() < deadline:
        time.sleep(0.02)
    assert name not in server.api.sessions


def test_stopped_server_is_reported(browser, world, serve):
    page = browser.new_page()
    with serve(world, steps=1) as server:
        page.goto(server.url)
        expect(page.get_by_text("Press an action key, or Play")).to_be_visible()
        page.keyboard.down("ArrowLeft")
        wait_for_frame(page, 1)
        server.shutdown()
        server.server_close()
    expect(page.get_by_role("alert")).to_contain_text("The server does not respond. Start dreamer4-play again")
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    page.close()
