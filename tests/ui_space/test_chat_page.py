"""The chat in a real Chromium, with the demo model of text."""

from playwright.sync_api import Browser, expect

from tests.platforms.harness import until
from tests.ui_space.conftest import Site
from tests.ui_space.visitor import Visitor, visitor

QUESTION = "How many corners does a square have?"
BOT = ".chat .bot .message"


def ask(somebody: Visitor, message: str) -> None:
    somebody.seen(".chat-message textarea").fill(message)
    somebody.submit()


def test_a_question_is_answered_and_the_next_one_follows(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Chat")
        expect(somebody.seen(".worker")).to_contain_text("A worker is ready")
        ask(somebody, QUESTION)
        told = somebody.until("tokens")
        expect(somebody.page.locator(BOT).last).to_contain_text("four corners")
        assert "✓ signature verified" in told
        ask(somebody, "And a triangle?")
        expect(somebody.page.locator(BOT)).to_have_count(2)
        somebody.until("tokens")
        job = site.text_studio.client.status(somebody.job_id())
        assert job["status"] == "COMPLETED"


def test_a_nudge_begins_the_answer(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Chat")
        somebody.seen(".chat-nudge :is(textarea, input)").fill("A square has")
        ask(somebody, QUESTION)
        somebody.until("tokens")
        expect(somebody.page.locator(BOT).last).to_contain_text("A square has")


def test_a_reload_keeps_the_conversation(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Chat")
        ask(somebody, QUESTION)
        somebody.until("tokens")
        somebody.page.reload()
        somebody.arrived()
        somebody.until("tokens")
        expect(somebody.page.locator(".chat .user .message").last).to_contain_text(QUESTION)
        expect(somebody.page.locator(BOT).last).to_contain_text("four corners")


def test_new_topic_forgets_the_conversation_and_the_history_opens_it_again(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Chat")
        ask(somebody, QUESTION)
        somebody.until("tokens")
        somebody.page.get_by_role("button", name="New topic").click()
        expect(somebody.page.locator(BOT)).to_have_count(0)
        somebody.page.get_by_role("tab", name="History", exact=True).click()
        somebody.page.locator(".job-rows a").click()
        expect(somebody.page.locator(BOT).last).to_contain_text("four corners")
        expect(somebody.page.locator(".chat .user .message").last).to_contain_text(QUESTION)


def test_roleplay_is_sent_in_its_own_format(site: Site, browser: Browser) -> None:
    with visitor(browser, site.url) as somebody:
        somebody.open("Chat")
        somebody.seen(".chat-message textarea").fill(QUESTION)
        somebody.page.get_by_role("button", name="Roleplay").click()
        somebody.until("tokens")
        receipt = until(lambda: site.text_studio.client.status(somebody.job_id())["output"][-1]["receipt"])
        assert receipt["params"]["prompt"].endswith(f"<|user|>{QUESTION}\n<|model|>")
