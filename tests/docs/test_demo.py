"""The models that run in a page: their numbers, their arithmetic, and what a reader can do."""

import base64
import dataclasses
import itertools
import json
import re
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import test_browser
import torch
import torch.nn.functional as F
from conftest import skip_or_fail
from hypothesis import given, settings
from hypothesis import strategies as st

from docs.annotate.demo import COMPUTED, model_script, models
from docs.annotate.formulas import INSTALL, THEME
from docs.annotate.mistake import Mistake
from docs.annotate.parts import Source
from docs.annotate.settings import Settings
from docs.figures.demo import draw_runs, shuffle, write
from docs.figures.inside import trained
from feedback import FeedbackLM
from feedback.data.text import split
from feedback.data.tiny_shakespeare import load_tiny_shakespeare
from feedback.experiments.groups import elements
from feedback.lm.pretrained import TRAINED
from feedback.training.evaluate import evaluate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pages/demo.md").read_text(encoding="utf-8")
SCRIPT = (THEME / "demo.js").read_text(encoding="utf-8")
SONG = re.search("UNSEEN = `([^`]+)`", SCRIPT)[1]
"""The text whose loss the page shows: four times as many characters as the memory has slots."""
MIX = [0.5, 0.0, -2.0, 1.5, 0.3]

browser, open_page = test_browser.browser, test_browser.open_page


def rounded(**changes):
    """The model with its numbers rounded as on the page, and its characters."""
    model, tokenizer = trained()
    weights = {name: tensor.half().float() for name, tensor in model.state_dict().items()}
    if changes:
        model = FeedbackLM(dataclasses.replace(model.config, **changes)).eval()
        weights = {
            name: tensor[-model.config.mem_len :] if ".pos_" in name else tensor
            for name, tensor in weights.items()
        }
    model.load_state_dict(weights)
    return model, tokenizer


@torch.no_grad()
def python_logits(model, tokenizer, text, mix=None):
    """The logits after each character of a text, `(T, V)`."""
    if mix is not None:
        model.transformer.mix.weight.copy_(torch.tensor(mix))
    return model(tokenizer.encode(text)[None])[0][0]


def until(page, expression: str) -> None:
    """Waits until it holds; the policy of the page does not let the browser wait for a string."""
    deadline = time.monotonic() + 60
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(20)


@pytest.fixture
def page(open_page):
    """The page with the models, with time for machines that have much else to do."""
    page = open_page("demo.html")
    page.set_default_timeout(180_000)
    return page


def page_logits(page, text, mix=None, slots=None):
    """The same, computed in the page."""
    steps = """async ([text, mix, slots]) => {
        const model = await loadModel("tiny_shakespeare"), memory = model.start();
        const step = (token) => model.step(memory, token, mix ?? undefined, slots ?? undefined);
        return model.encode(text).map((token) => [...step(token).logits]);
    }"""
    return torch.tensor(page.evaluate(steps, [text, mix, slots]))


def test_the_script_holds_the_rounded_numbers():
    """Every tensor of both models comes back from the script as its float16, and it is small."""
    for name, limit in (("tiny_shakespeare", 2_200_000), ("a5", 600_000)):
        script = model_script(TRAINED / name)
        assert len(script) <= limit
        data = json.loads(re.fullmatch(rf".*\.{name} = (\{{.*\}});\n", script.decode())[1])
        numbers = torch.tensor(np.frombuffer(base64.b64decode(data["float16"]), "<f2").copy())
        for tensor, (key, shape) in zip(
            numbers.split([int(np.prod(s)) for s in data["shapes"].values()]),
            data["shapes"].items(),
            strict=True,
        ):
            expected = FeedbackLM.from_pretrained(name).state_dict()[key].half()
            assert torch.equal(tensor.view(shape), expected)
    assert f"{sum(np.prod(s) for s in trained_shapes()):,} numbers" in PAGE


def trained_shapes():
    """The shapes of all tensors of the larger model."""
    return [tuple(tensor.shape) for tensor in trained()[0].state_dict().values()]


def test_a_model_that_the_page_cannot_compute(tmp_path):
    """One with other choices, or none at all: the error names the page and what to do."""
    folder = tmp_path / "feedback/trained/other"
    folder.mkdir(parents=True)
    site = dataclasses.replace(Settings.read(ROOT), root=tmp_path)
    source = Source("p", "docs/p.md", "page", {"models": "other"}, [], "")
    with pytest.raises(Mistake, match=r"docs/p.md:1: the model 'other' .*; correct models:"):
        models(site, [source])
    stored = json.loads((TRAINED / "a5/config.json").read_text())
    for key in COMPUTED:
        (folder / "config.json").write_text(json.dumps({**stored, key: "gelu"}))
        with pytest.raises(Mistake, match=rf"has {key} = 'gelu', but a page computes"):
            models(site, [source])


def test_rounding_costs_nothing():
    """As the page says: on 32,000 characters of the validation text, less than 0.0001 nats."""
    model, tokenizer = trained()
    val = split(load_tiny_shakespeare(), tokenizer).val[:32_000]
    losses = [evaluate(m, val, seq_len=64, batch_size=32) for m in (model, rounded()[0])]
    assert abs(losses[0] - losses[1]) < 1e-4 and "less than 0.0001" in PAGE


def test_the_losses_that_the_page_names():
    """In the order of the page: layers left out, slots closed, slots with only characters."""
    named = [float(x) for x in re.findall(r"\b\d\.\d\d\b", PAGE)]
    found = []
    for left_out, slots in (
        *(([], 48), ([1, 2], 48), ([3], 48), ([4], 48)),
        *(([], 2), ([], 0), ([1, 2, 3, 4], 48)),
    ):
        model, tokenizer = rounded(mem_len=max(1, slots))
        model.transformer.mix.weight.data[left_out] = -torch.inf
        tokens = tokenizer.encode(SONG)
        with torch.no_grad():
            # Without memory, every character is the first.
            logits = model(tokens[None])[0][0] if slots else model(tokens[:, None])[0][:, 0]
        found.append(F.cross_entropy(logits[:-1], tokens[1:]).item())
    assert named == pytest.approx(found, abs=0.006)


def test_the_recorded_runs_are_those_of_the_models():
    """What stands there without a script is what the models write and answer."""
    drawn = {name: (ROOT / "docs/figures" / name).read_text() for name in ("demo.svg", "cards.svg")}
    texts = {name: re.findall(r">([^<>]+)</text>", svg) for name, svg in drawn.items()}
    fresh = {name: re.findall(r">([^<>]+)</text>", svg) for name, svg in draw_runs().items()}
    # Percentages may round differently on another processor.
    words = [[t for t in texts[name] if "%" not in t] for name in texts]
    assert words == [[t for t in fresh[name] if "%" not in t] for name in texts]
    assert all(line in texts["demo.svg"] for line in write().split("\n") if line)
    _, said, true = shuffle()
    assert said == true


def test_logits_of_the_page(page):
    """
    After each of 200 characters, four times as many as there are slots, with the learned mix and
    with another: nearly those of PyTorch with the same rounded numbers, and close to those with
    the numbers as they were trained. Found: 8e-6, and 0.008 and 0.013.
    """
    text = (SONG + "\nFERDINAND:\n")[:200]
    for mix in (None, MIX):
        logits = page_logits(page, text, mix)
        assert (logits - python_logits(*rounded(), text, mix)).abs().max() < 1e-3
        assert (logits - python_logits(*trained(), text, mix)).abs().max() < 2e-2
        page.evaluate("(mix) => feedbackDemo.mix(mix)", mix)
        last = page.evaluate("(text) => feedbackDemo.logits(text).then((all) => [...all])", text)
        assert last == logits[-1].tolist()


@pytest.mark.parametrize("slots", [1, 7])
def test_with_fewer_slots_it_is_a_model_with_a_shorter_memory(page, slots):
    """A model whose `mem_len` is the number of open slots, with the last rows of its tables."""
    expected = python_logits(*rounded(mem_len=slots), SONG)
    assert (page_logits(page, SONG, slots=slots) - expected).abs().max() < 1e-3


def test_it_writes_what_python_writes(page):
    """The likeliest hundred characters after a prompt, with the learned mix and with another."""
    prompt = "ROMEO:\n"
    for mix in (None, MIX):
        model, tokenizer = rounded()
        if mix:
            model.transformer.mix.weight.data.copy_(torch.tensor(mix))
        written = model.generate(tokenizer.encode(prompt)[None], 100, temperature=0)[0, -100:]
        write = (
            "([prompt, mix]) => feedbackDemo.mix(mix).then(() => feedbackDemo.write(prompt, 100))"
        )
        assert page.evaluate(write, [prompt, mix]) == tokenizer.decode(written)


def test_characters_it_does_not_know(page):
    """The functions of the page refuse them, by name; in the prompt they are left out."""
    assert "does not know é 7" in page.evaluate(
        "feedbackDemo.logits('aé7').catch((error) => error.message)"
    )
    start(page, pace="Infinity")
    page.get_by_label("Prompt").fill("JULIET 7:\n")
    page.get_by_text("does not know are left out").wait_for()
    assert page.get_by_role("region", name="The text").inner_text().startswith("JULIET :\n")


@given(st.permutations(range(5)))
@settings(max_examples=30)
def test_elements_are_numbered_as_in_python(p):
    """The page lists even orders as they come in a dictionary; so does the group."""
    crossings = sum(p[i] > p[j] for i in range(5) for j in range(i, 5))
    assert (tuple(p) in elements("a5")) == (crossings % 2 == 0)
    assert elements("a5") == sorted(elements("a5"))


def start(page, pace="30"):
    """Runs the model in the page, and waits until it has written."""
    page.get_by_role("button", name="Run the model here").click()
    page.get_by_role("combobox").select_option(pace)
    page.get_by_role("button", name="Go on").wait_for()


def text_of(page):
    """What has been written, prompt included."""
    return page.get_by_role("region", name="The text").text_content()


def losses(page):
    """The three losses, once they are there."""
    until(page, "document.querySelectorAll('.losses output')[2].textContent")
    return page.locator(".losses output").all_inner_texts()


def test_nothing_is_loaded_before_it_is_asked_for(page):
    """The page and all it loads are small; the models come by a click, each by its own."""
    files = "[...document.querySelectorAll('script[src], link[rel=stylesheet]')]"
    urls = page.evaluate(f"{files}.map((e) => e.src ?? e.href)")
    site = test_browser.SITE
    names = [url.split("/site/")[-1] for url in urls if url]
    assert "assets/demo.js" in names and not any("shakespeare" in name for name in names)
    total = sum((site / name).stat().st_size for name in ["demo.html", *names])
    assert total < 300_000
    start(page, pace="Infinity")
    urls = page.evaluate(f"{files}.map((e) => e.src ?? e.href)")
    assert any(url.endswith("assets/tiny_shakespeare.js") for url in urls)
    assert not any(url.endswith("assets/a5.js") for url in urls)


def test_the_memory_can_be_taken_apart_by_keyboard(page):
    """
    The same settings write the same text, and so does a mix that differs by a constant. Without
    layers 1 and 2 the loss stays as it was, without layer 3 it does not; a slider moves all shares;
    and Reset brings back the first text.
    """
    page.get_by_role("button", name="Run the model here").focus()
    page.keyboard.press("Enter")
    page.get_by_role("combobox").select_option("Infinity")
    page.get_by_role("button", name="Go on").wait_for()
    first = text_of(page)
    assert len(first) == len("ROMEO:\n") + 300
    assert losses(page)[0] == losses(page)[1] == "1.44"
    more = "loadModel('tiny_shakespeare').then((m) => m.transformer.mix.weight.map((w) => w + 1))"
    page.evaluate(f"{more}.then(feedbackDemo.mix)")
    page.get_by_text("Not a character differs").wait_for()
    assert text_of(page) == first
    page.get_by_role("button", name="Without layers 1 and 2").focus()
    page.keyboard.press("Enter")
    page.get_by_text("the learned memory writes something else").wait_for()
    page.get_by_text("as with the learned one").wait_for()
    assert text_of(page) != first
    page.get_by_role("button", name="As learned").press("Enter")
    page.get_by_text("It reads this text with 1.44").wait_for()
    page.get_by_label("Layer 3 goes into memory").focus()
    page.keyboard.press("Space")
    page.get_by_text("the learned memory writes something else").wait_for()
    page.get_by_text("0.04 more than with the learned one").wait_for()
    other = text_of(page)
    assert other != first and len(other) == len(first)
    share = page.locator(".stack output").nth(0)
    before = share.inner_text()
    page.get_by_label("Weight of layer 4 in memory").focus()
    page.keyboard.press("Home")
    assert share.inner_text() != before
    page.get_by_label("Open memory slots").focus()
    page.keyboard.press("Home")
    until(page, "document.querySelector('.losses output').textContent === '2.39'")
    page.get_by_role("button", name="Reset").first.click()
    page.get_by_role("combobox").select_option("Infinity")
    page.get_by_role("button", name="Go on").wait_for()
    assert text_of(page) == first


def test_it_stops_and_goes_on(page):
    """
    Stop keeps what is there, and announces it; Go on writes on from it; looking back shows the
    memory of that moment.
    """
    page.get_by_role("button", name="Run the model here").click()
    until(page, "document.querySelectorAll('.demo .text span').length > 12")
    page.get_by_role("button", name="Stop").click()
    stopped = text_of(page)
    assert 12 < len(stopped) < 307
    assert page.locator(".demo .unseen").text_content() == stopped.removeprefix("ROMEO:\n")
    assert page.locator(".slots .full").count() == min(48, len(stopped) - 1)
    page.get_by_role("combobox").select_option("Infinity")
    page.get_by_role("button", name="Go on").click()
    until(page, f"document.querySelectorAll('.text span').length == {len(stopped) + 300}")
    assert text_of(page).startswith(stopped)
    page.get_by_label("Look back at a character").focus()
    page.keyboard.press("Home")
    assert page.locator(".slots .full").count() == 0
    page.keyboard.press("ArrowRight")
    assert page.locator(".slots .full").all_inner_texts() == ["R"]
    label = page.locator(".cells[role=img]").first.get_attribute("aria-label")
    assert label == "Layer 4 looks most at R, 1 back, with 100 %"


def test_five_cards(page):
    """Pressed shuffles, by keyboard, and random ones: the model's cards lie like the true ones."""
    page.get_by_role("button", name="Shuffle here").click()
    page.get_by_role("button", name="Shuffle A B C D E to").first.press("Enter")
    page.get_by_text("After 1 shuffle the model says").wait_for()
    page.get_by_role("button", name="20 random").press("Enter")
    page.get_by_text("After 21 shuffles").wait_for()
    assert page.get_by_text("21 of 21 answers were right").count() == 1
    truth, said = page.locator(".table").evaluate_all("(all) => all.map((e) => e.ariaLabel)")
    assert truth.split(": ")[-1] == said.split(": ")[-1]
    # The number of each element, and the answers of the model in Python to the same tokens.
    assert page.evaluate("ELEMENTS") == [list(p) for p in elements("a5")]
    tokens = torch.randint(60, (1, 100), generator=torch.Generator().manual_seed(7))
    answers = """async (tokens) => {
        const model = await loadModel("a5"), memory = model.start();
        return tokens.map((token) => [...model.step(memory, token).logits]);
    }"""
    with torch.no_grad():
        expected = FeedbackLM.from_pretrained("a5")(tokens)[0][0]
    assert (torch.tensor(page.evaluate(answers, tokens[0].tolist())) - expected).abs().max() < 0.1


def test_less_motion(open_page):
    """Who asked the system for less motion sees the text when it is whole."""
    page = open_page("demo.html")
    page.set_default_timeout(180_000)
    page.emulate_media(reduced_motion="reduce")
    page.get_by_role("button", name="Run the model here").click()
    page.get_by_role("button", name="Go on").wait_for()
    assert page.get_by_role("combobox").input_value() == "Infinity"
    assert len(text_of(page)) == 307


def test_a_model_that_does_not_come(page):
    """The page says so, the recorded run stays, and another click tries again."""
    page.route("**/assets/a5.js", lambda route: route.abort())
    page.get_by_role("button", name="Shuffle here").click()
    page.get_by_text("It does not run: assets/a5.js could not be loaded").wait_for()
    assert page.locator("svg[data-figure=cards]").is_visible()
    page.unroute("**/assets/a5.js")
    page.get_by_role("button", name="Shuffle here").click()
    page.get_by_text("Press a shuffle").wait_for()
    assert page.locator("svg[data-figure=cards]").count() == 0


def test_accessible_while_it_runs(page):
    """axe finds nothing, and nothing scrolls sideways, once both models have run."""
    axe = test_browser.AXE
    if not axe.exists():
        skip_or_fail(f"axe-core is not installed; run: {INSTALL}")
    start(page, pace="Infinity")
    page.get_by_role("button", name="Two slots").click()
    page.get_by_text("more than with the learned one").wait_for()
    page.get_by_role("button", name="Shuffle here").click()
    page.get_by_role("button", name="20 random").click()
    page.evaluate(axe.read_text(encoding="utf-8"))
    for width, theme in itertools.product((1280, 390), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=theme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        violations = page.evaluate("axe.run().then((r) => r.violations)")
        assert [(v["id"], v["nodes"][0]["html"][:200]) for v in violations] == []


def test_without_a_script_recorded_runs_stand_there(open_page):
    """Both drawings, and no button."""
    page = open_page("demo.html", script=False)
    assert page.locator("svg[data-figure]").count() == 2
    assert page.get_by_text("What he is that").is_visible()
    assert page.locator("button, input").count() == 0


def test_the_arithmetic_is_short():
    """As the page says, and the interface is apart from it."""
    text = (THEME / "model.js").read_text(encoding="utf-8")
    assert "less than two hundred lines" in " ".join(PAGE.split()) and text.count("\n") < 200
    assert "addEventListener" not in text.split("const loadModel")[0]


def test_the_arithmetic_runs_wherever_javascript_does():
    """Without a browser too: node reads the script, and `layerNorm` and `softmax` are PyTorch's."""
    node = shutil.which("node")
    if node is None:
        skip_or_fail("node is not installed")
    x, gamma, beta = torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    code = (THEME / "model.js").read_text(encoding="utf-8") + (
        "const [x, weight, bias] = JSON.parse(process.argv[1]).map((a) => Float32Array.from(a));"
        "const both = [layerNorm(x, { weight, bias }), softmax(x)];"
        "console.log(JSON.stringify(both.map((a) => [...a])));"
    )
    given = json.dumps([x.tolist(), gamma.tolist(), beta.tolist()])
    result = subprocess.run([node, "-e", code, given], capture_output=True, text=True, check=True)
    norm, weights = (torch.tensor(a) for a in json.loads(result.stdout))
    torch.testing.assert_close(norm, F.layer_norm(x, (16,), gamma, beta))
    torch.testing.assert_close(weights, x.softmax(0))
