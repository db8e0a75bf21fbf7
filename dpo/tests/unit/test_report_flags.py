"""Flags from the page to the training: a pair has one digest on both sides, and the page exports what training reads.

Also the pairs as a dataset folder, and the page on which two runs stand beside each other.
"""

import asyncio
import json
import re
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
import tiny_run
from made_up import gpt, records, write

from sotopia_sdpo.pairs.digest import digest_of
from sotopia_sdpo.report.data import report_of
from sotopia_sdpo.report.dataset import write_folder
from sotopia_sdpo.report.page import page_of
from sotopia_sdpo.report.reading import shown_pairs


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
BROWSER_S = 120
SHIPPED = Path(__file__).resolve().parents[3] / "LLaMA-Factory" / "data" / "demo_pairs.json"
CALLS = [
    {"from": "human", "value": "Book it."},
    {"from": "function_call", "value": '[{"name":"book",  "arguments": {"seat": "é"}}]'},
    {"from": "observation", "value": "booked"},
]


def in_training(path: Path) -> list[str]:
    """The digests that training computes of a file's pairs."""
    from llamafactory_sdpo.data.flags import digests_of
    from llamafactory_sdpo.data.formats import Format
    from llamafactory_sdpo.data.sources import source_of

    attr = SimpleNamespace(load_from="file", dataset_name=str(path), split="train", subset=None, folder=None)
    return list(digests_of(source_of(attr, str(path.parent), str(path.parent / "cache")), Format()))


def in_page(path: Path) -> list[str]:
    return [digest_of(pair) for pair in shown_pairs(path, "w.py")]


def dialogues() -> list[dict[str, object]]:
    """Pairs with a system turn, calls, other scripts, weights and fields of others in the turns."""
    system = {"from": "system", "value": "Be kind \u2028 שלום 🙂"}
    sides = [[system, *CALLS, gpt('done \\ "x"')], [system, *CALLS, {**gpt("done?"), "weight": 0.5, "index": 4}]]
    return [{"conversations": turns} for turns in sides]


@pytest.mark.parametrize("name", [tiny_run.PREF, tiny_run.AUTO, tiny_run.ETO, "shipped", "dialogues"])
def test_page_and_training_name_a_pair_alike(tmp_path, name):
    found = {"shipped": lambda: json.loads(SHIPPED.read_text()), "dialogues": dialogues}
    path = write(tmp_path / "pairs.json", found.get(name, lambda: tiny_run.files()[name])())
    digests = in_page(path)
    assert digests == in_training(path) and len(set(digests)) == len(digests)
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in digests)


# ---- the dataset folder


def folder_of(path: Path) -> Path:
    folder = path.with_name("folder")
    write_folder(folder, json.loads(path.read_text("utf-8")), shown_pairs(path, "w.py"), path.name)
    return folder


def test_a_folder_loads_and_says_the_same(tmp_path):
    """As `datasets` loads it; the pairs have the digests of the file's, so flags and training go on."""
    from datasets import load_dataset

    path = write(tmp_path / "pairs.json", [*records(6), *json.loads(json.dumps(records(7)))[12:]])
    folder = folder_of(path)
    rows = load_dataset(str(folder), cache_dir=str(tmp_path / "hf"))["train"]
    given = json.loads(path.read_text("utf-8"))
    assert len(rows) == len(given)
    for row, record in zip(rows, given, strict=True):
        assert {name: row[name] for name in record if name != "conversations"} == {
            name: value for name, value in record.items() if name != "conversations"
        }
        assert [[t["from"], t["value"]] for t in row["conversations"]] == [
            [t["from"], t["value"]] for t in record["conversations"]
        ]
    assert in_training(folder) == in_page(path)


def test_the_card_counts_what_is_there(tmp_path):
    found = records(4, scenarios=2)
    for record in found:
        record |= {"agent_model": "a`b", "partner_model": "p"}
    card = (folder_of(write(tmp_path / "pairs.json", found)) / "README.md").read_text("utf-8")
    goals = [[record["goal"] for record in found[side::2]] for side in (0, 1)]
    gains = [other - one for one, other in zip(*goals, strict=True)]
    row = f"| `goal` | 4 | {sum(goals[0]) / 4:.2f} | {sum(goals[1]) / 4:.2f} | {min(gains):+.2f} | {max(gains):+.2f} |"
    assert row in card and "4 pairs of dialogues" in card and "of 2 scenarios or tasks" in card
    assert "- `a'b with p`: 4" in card and "path: pairs.jsonl" in card


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    path = write(tmp_path / "pairs.json", records(1))
    (tmp_path / "folder").write_text("a file")
    from sotopia_sdpo.errors import UserError

    with pytest.raises(UserError, match="cannot be written .*; give another --dataset-folder"):
        folder_of(path)


# ---- the page in a browser


class Tab:
    """One page in a real browser, driven by its own protocol."""

    def __init__(self, socket):
        self._socket, self._number = socket, 0

    async def call(self, method, **parameters):
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = json.loads((await self._socket.receive()).data)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    async def value(self, script):
        found = await self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def until(self, script):
        """Wait until a script gives true."""
        end = time.monotonic() + BROWSER_S
        while not await self.value(script):
            assert time.monotonic() < end, script
            await asyncio.sleep(0.05)

    async def open(self, page):
        await self.call("Page.navigate", url=page.as_uri())
        await self.until(
            "document.readyState === 'complete' && Boolean(document.getElementById('count')?.textContent)"
        )


def browse(work, folder):
    """Run `work(tab)` in a browser of its own, whose downloads go to a folder."""

    async def run():
        command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder / 'profile'}"]
        with subprocess.Popen(
            [*command, "--remote-debugging-port=0", "about:blank"], stderr=subprocess.PIPE, text=True
        ) as browser:
            try:
                port = next(found[1] for line in browser.stderr if (found := re.search(r"ws://[^/]+:(\d+)/", line)))
                async with aiohttp.ClientSession() as session:
                    async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                        address = (await answer.json())[0]["webSocketDebuggerUrl"]
                    async with session.ws_connect(address, max_msg_size=0) as socket:
                        tab = Tab(socket)
                        await tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
                        return await work(tab)
            finally:
                browser.terminate()
                with suppress(subprocess.TimeoutExpired):
                    browser.communicate(timeout=10)

    return asyncio.run(asyncio.wait_for(run(), BROWSER_S))


@pytest.mark.skipif(BROWSER is None, reason="no chromium, chromium-browser or google-chrome on the PATH")
def test_flags_and_orders_in_a_real_browser(tmp_path):
    """Two flags are exported, kept over a reload, sorted first, and are what training reads; printing folds."""
    from llamafactory_sdpo.data.flags import Flags

    path = write(tmp_path / "pairs.json", records(40, "uncut", scenarios=8))
    page = tmp_path / "pairs.html"
    pairs = shown_pairs(path, "w.py")
    page.write_text(page_of(report_of(pairs), path.name), "utf-8")
    digests = [digest_of(pair) for pair in pairs]
    exported = tmp_path / "pairs_flags.json"

    async def set_field(tab, name, value):
        await tab.value(f"form.elements[{name!r}].value = {value!r}; apply()")

    async def work(tab):
        await tab.open(page)
        await tab.value("for (const at of [2, 7]) document.querySelectorAll('.flag')[at].click()")
        await tab.value("document.getElementById('export').click()")
        end = time.monotonic() + BROWSER_S
        while not exported.exists() and time.monotonic() < end:
            await asyncio.sleep(0.05)
        await tab.open(page)
        order = "[...document.querySelectorAll('.pair .number')].map((one) => Number(one.textContent))"
        assert await tab.value(order) == list(range(1, 41))
        await set_field(tab, "order", "flags")
        assert (await tab.value(order))[:4] == [3, 8, 1, 2]
        await set_field(tab, "order", "down goal")
        falling = await tab.value(order)
        gains = [pairs[number - 1].positive.goal - pairs[number - 1].negative.goal for number in falling]
        assert gains == sorted(gains, reverse=True) and gains[0] > gains[-1]
        assert await tab.value("document.body.classList.contains('is-folded')")
        await set_field(tab, "flags", "on")
        assert await tab.value("document.getElementById('count').textContent") == "2 of 40 pairs shown"
        assert not await tab.value("document.body.classList.contains('is-folded')")
        await set_field(tab, "flags", "")
        return (await tab.call("Page.printToPDF"))["data"]

    printed = browse(work, tmp_path)
    assert [one["digest"] for one in json.loads(exported.read_text())["pairs"]] == [digests[2], digests[7]]
    assert Flags(str(exported)).name
    import base64

    assert len(re.findall(rb"/Type\s*/Page\b", base64.b64decode(printed))) <= 3
