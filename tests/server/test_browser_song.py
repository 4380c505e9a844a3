"""A song in a real browser, with real models: written, drafted, listened to, finished, downloaded."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest
from browsing import COUNT_STARTS, Server, download, draft, listen, opened, serving, state, write


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served") / "songs", "yuegguf") as found:
        yield found


def test_write_draft_listen_finish_download(browser: Any, server: Server) -> None:
    with opened(browser, server) as page:
        page.add_init_script(COUNT_STARTS)
        write(page)
        song = draft(page)
        assert page.locator(".lane[data-lane]").count() == 2
        listen(page)
        page.get_by_role("button", name="Solo: Vocals").click()
        assert "off" in page.locator('[data-lane="instrumental"]').get_attribute("class")
        page.get_by_role("button", name="Solo: Vocals").click()
        page.get_by_role("button", name="Finish it").click()
        state(page, "Finished")
        mix = download(page, "wav", "Mix")
        assert mix == (server.songs / song / "mix.wav").read_bytes()
        archive = zipfile.ZipFile(io.BytesIO(download(page, "Everything", "More")))
        assert archive.read(f"{song}/mix.wav") == mix
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
