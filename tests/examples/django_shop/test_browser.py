"""The shop as somebody sees it who has a browser: real processes, Debian's Chromium, headless."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pgq_sync.testing.databases import database
from tests.examples.django_shop.conftest import MANAGE, MakeShop
from tests.waiting import PATIENCE, wait_until

CHROMIUM = shutil.which("chromium")
PHONE = {"width": 360, "height": 740}

try:
    from playwright.sync_api import Browser, Page, expect, sync_playwright
except ModuleNotFoundError:
    if os.environ.get("CI") == "true":
        raise
    pytest.skip("Playwright is missing: pip install playwright", allow_module_level=True)

if CHROMIUM is None and os.environ.get("CI") != "true":
    pytest.skip("Chromium is missing: apt-get install chromium", allow_module_level=True)

expect.set_options(timeout=PATIENCE * 1_000)
OpenPage = Callable[..., Page]


# While Playwright runs it keeps an event loop in this thread, in which Django's ORM refuses to work: it ends with the module.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None, "Chromium is missing: apt-get install chromium"
    with (
        sync_playwright() as playwright,
        contextlib.closing(playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])) as browser,
    ):
        yield browser


@pytest.fixture(scope="module")
def address(server: str, make_shop: MakeShop) -> Iterator[str]:
    """Where the shop is, with a worker."""
    with (
        database(server, "template0") as dsn,
        make_shop(DATABASE_URL=dsn).start("demo", "--port=0", command=MANAGE) as demo,
    ):
        found = re.search(r"http://\S+(?=/)", demo.stdout.wait_for("development server at"))
        assert found is not None
        demo.stderr.wait_for("started:")
        yield found[0]
        demo.signal(signal.SIGTERM)
        demo.ended()


@pytest.fixture
def open_page(browser: Browser, address: str) -> Iterator[OpenPage]:
    """Opens a page in a window of its own; what its console or its scripts complain about fails the test."""
    complaints: list[str] = []
    with contextlib.ExitStack() as stack:

        def open_at(path: str, **options: Any) -> Page:
            context = stack.enter_context(contextlib.closing(browser.new_context(base_url=address, **options)))
            context.set_default_timeout(PATIENCE * 1_000)
            page = context.new_page()
            page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.goto(path)
            return page

        yield open_at
    assert not complaints


def order(page: Page, email: str) -> None:
    page.goto("/")
    page.get_by_label("Product").select_option(label="Fountain pen")
    page.get_by_label("Email").fill(email)
    page.get_by_role("button", name="Place the order").click()


def log_in(page: Page) -> None:
    page.goto("/admin/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill("admin")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("link", name="Log out").or_(page.get_by_role("button", name="Log out"))).to_be_visible()


def order_that_is_corrected(page: Page, who: str) -> str:
    """Orders with an address that the mail server refuses for good, and corrects it in the admin; the order's page."""
    order(page, f"{who}@nowhere.example")
    expect(page.get_by_role("status")).to_contain_text("no such mailbox")
    at = page.url
    number = at.rstrip("/").rsplit("/", 1)[1]
    log_in(page)
    page.goto(f"/admin/orders/order/{number}/change/")
    page.get_by_label("Email").fill(f"{who}@example.com")
    page.get_by_role("button", name="Save", exact=True).click()
    return at


def test_an_order_is_followed_by_its_receipt(open_page: OpenPage) -> None:
    page = open_page("/")
    order(page, "ada@example.com")
    expect(page.get_by_role("status")).to_have_text("The receipt is sent.")
    order(page, "ada@greylist.example")
    expect(page.get_by_role("status")).to_contain_text("attempt 2 comes soon")
    expect(page.get_by_role("status")).to_have_text("The receipt is sent.")


def test_an_export_tells_how_far_it_is(open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page("/exports/")
    page.add_init_script(
        """
        window.seen = [];
        addEventListener("DOMContentLoaded", () => {
            const bar = document.querySelector("progress");
            if (bar) new MutationObserver(() => window.seen.push(bar.value)).observe(bar, { attributes: true });
        });
        """
    )
    page.get_by_role("button", name="Export all orders").click()
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_be_hidden()
    seen = page.evaluate("window.seen")
    assert seen == sorted(seen)
    assert len({fraction for fraction in seen if 0 < fraction < 1}) >= 2, seen
    assert seen[-1] == 1
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    download.value.save_as(tmp_path / "orders.csv")
    lines = (tmp_path / "orders.csv").read_text().splitlines()
    assert lines[0] == "order,created,email,product,quantity,total"
    assert len(lines) > 120


def test_a_cancelled_export_ends(open_page: OpenPage) -> None:
    page = open_page("/exports/")
    page.get_by_role("button", name="Export all orders").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("status")).to_contain_text("ended without a file")
    expect(page.get_by_role("link", name="Download")).to_be_hidden()


def test_a_report_is_made_when_it_is_asked_for(open_page: OpenPage) -> None:
    page = open_page("/reports/")
    page.get_by_role("button", name="Do it now").click()
    expect(page.get_by_text("The report is being made")).to_be_visible()

    def reported() -> int:
        page.reload()
        return page.locator("tbody .number").count()

    wait_until(reported)


def test_a_corrected_order_gets_its_receipt(open_page: OpenPage) -> None:
    page = open_page("/")
    page.goto(order_that_is_corrected(page, "ada"))
    page.get_by_role("button", name="Send it again").click()
    expect(page.get_by_role("status")).to_have_text("The receipt is sent.")


def test_a_failed_job_is_retried_from_the_admin(open_page: OpenPage) -> None:
    page = open_page("/")
    at = order_that_is_corrected(page, "grace")
    page.goto("/admin/pgq_sync/finishedjob/?status=failed")
    # The latest of those that have failed.
    page.get_by_role("row").filter(has_text="send_receipt").first.get_by_role("checkbox").check()
    page.locator("select[name=action]").select_option("requeue")
    page.locator("button[name=index]").click()
    expect(page.locator(".messagelist")).to_contain_text("put back")
    page.goto(at)
    expect(page.get_by_role("status")).to_have_text("The receipt is sent.")


def test_no_page_is_wider_than_a_phone(open_page: OpenPage) -> None:
    page = open_page("/", viewport=PHONE)
    order(page, "a.customer.with.a.remarkably.long.name@some.remarkably.long.domain.example.com")
    expect(page.get_by_role("status")).to_have_text("The receipt is sent.")
    paths = ["/", "/orders/", page.url, "/exports/", "/reports/"]
    page.goto("/exports/")
    page.get_by_role("button", name="Export all orders").click()
    for path in [page.url, *paths]:
        page.goto(path)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= PHONE["width"], path
