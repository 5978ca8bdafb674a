"""All figures look alike: one colour for feedback, two pixels for each that is shown, a caption."""

import base64
import io
import json
import re
from pathlib import Path

import matplotlib.image
import nbformat
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from docs.annotate.mistake import Mistake
from docs.annotate.outputs import size
from docs.annotate.settings import Settings
from docs.figures.benchmark import BENCHMARK
from docs.figures.drawing import ACCENT, LIGHT
from docs.figures.experiments import WHO as CONTESTANTS
from docs.figures.seconds import WHO
from feedback.benchmark.report import draw_part
from feedback.support.figures import DOTS, FEEDBACK, OTHER, TRANSFORMER

ROOT = Path(__file__).parents[2]
SITE, STYLE = ROOT / "docs/site", ROOT / "docs/theme/style.css"
SETTINGS = Settings.read(ROOT)
NOT_OF_FEEDBACK = {
    "Five heat maps side by side": "values of either sign, blue and red",
    "Two heat maps of 60 times 60": "values of either sign, blue and red",
    "Two triangular heat maps": "shades from white to dark, through the colour of feedback",
    "A table of three by three": "shades from white to dark, through the colour of feedback",
}
"""Pictures of notebooks without the colour of feedback: how they begin, and why."""

# The filters of CSS, https://www.w3.org/TR/filter-effects-1/: a hue turned by half a circle.
HALF_TURN = np.array([[-0.574, 1.43, 0.144], [0.426, 0.43, 0.144], [0.426, 1.43, -0.856]])


def variables(block: str) -> dict[str, str]:
    """The colours that a block of the style sheet gives names to."""
    return dict(re.findall(r"--(\w+): (#\w+)", block))


def pixels(png: bytes) -> np.ndarray:
    """Red, green and blue of each pixel, from 0 to 255."""
    return np.rint(255 * matplotlib.image.imread(io.BytesIO(png))[..., :3]).astype(int)


def has(png: bytes, colour: str) -> bool:
    """Whether a picture has this colour, and not only on an edge here or there."""
    wanted = np.rint(255 * np.array(to_rgb(colour))).astype(int)
    return (pixels(png) == wanted).all(-1).sum() > 100


def pictures() -> list[tuple[str, dict, bytes]]:
    """The pictures of all notebooks, each with its notebook and its words."""
    found = []
    for name in SETTINGS.notebooks:
        stored = nbformat.read(ROOT / f"notebooks/{name}.ipynb", as_version=4)
        for cell in (cell for cell in stored.cells if cell.cell_type == "code"):
            for output in cell.outputs:
                if png := output.get("data", {}).get("image/png"):
                    words = output.metadata["image/png"]
                    found.append((name, words, base64.b64decode(png)))
    return found


def test_the_style_sheet_has_the_colours_of_the_figures():
    """In the light it has those of drawings; in the dark feedback's is what a picture's becomes."""
    text = STYLE.read_text(encoding="utf-8")
    light, *dark = (variables(block) for block in re.findall(r"\{[^{}]*--paper:[^{}]*\}", text))
    assert {name: light[name] for name in LIGHT} == LIGHT
    assert len(dark) == 2 and dark[0] == dark[1]
    how = re.findall(r"filter: invert\(1\) hue-rotate\(180deg\) contrast\(([.\d]+)\)", text)
    assert len(how) == 2 and how[0] == how[1]
    turned = np.clip(HALF_TURN @ (1 - np.array(to_rgb(FEEDBACK))), 0, 1)
    turned = 0.5 + float(how[0]) * (turned - 0.5)
    assert np.abs(255 * (turned - to_rgb(dark[0]["accent"]))).max() <= 1


def test_one_place_names_the_colour_of_feedback():
    """No other module has it, and no notebook has colours or a style of its own."""
    for folder in ("feedback", "docs/figures", "docs/annotate", "notebooks/src"):
        for path in (ROOT / folder).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert FEEDBACK not in text or path.parts[-2:] == ("support", "figures.py"), path
            if folder == "notebooks/src":
                assert "\nuse_style()\n" in text, path
                assert not re.search(r"""["']#[0-9a-f]{6}|style\.use|rcParams""", text), path
    for path in (ROOT / "docs/figures").glob("*.svg"):
        drawn = path.read_text(encoding="utf-8")
        assert ACCENT in drawn, path
        found = re.findall(r"var\(--(\w+), (#\w+)\)", drawn)
        assert {(name, value) for name, value in found if LIGHT.get(name, value) != value} == set()
        assert drawn.count("#") == len(found) + drawn.count("url(#"), path
    assert CONTESTANTS["feedback"].colour == WHO["feedback"][1] == ACCENT


def test_pictures_of_notebooks():
    """Each has feedback's colour, twice the pixels that are shown, and a caption of its own."""
    plain, captions = set(NOT_OF_FEEDBACK), set()
    for name, words, png in pictures():
        alt, where = words["alt"], f"{name}: {words['alt'][:40]}"
        width, height = size(png)
        shown = words["width"], words["height"]
        assert abs(width - 2 * shown[0]) < 2 and abs(height - 2 * shown[1]) < 2, where
        assert shown[0] <= 900, where
        assert 20 < len(words["caption"]) < 200 and words["caption"].endswith("."), where
        captions.add(words["caption"])
        begun = {start for start in plain if alt.startswith(start)}
        assert begun or has(png, FEEDBACK), where
        plain -= begun
    assert plain == set() and len(captions) == len(pictures())


def test_figures_of_the_site_have_captions():
    """Every picture and drawing is in a figure, with words below it."""
    counted = 0
    for path in SITE.rglob("*.html"):
        html = path.read_text(encoding="utf-8")
        shown = len(re.findall(r'<img |<svg role="img"', html))
        said = re.findall(r"<figcaption[^>]*>([^<]+)</figcaption></figure>", html)
        assert len(said) == shown and all(len(words) > 4 for words in said), path
        counted += shown
    assert counted > 60


def test_runs_have_the_colour_of_their_model():
    """The stored curves of runs; and they are large enough."""
    for path in (ROOT / "docs/runs").glob("*/loss.png"):
        made_by = json.loads((path.parent / "config.json").read_text())["architecture"]
        feedback = made_by == "FeedbackLM"
        assert has(path.read_bytes(), FEEDBACK) == feedback, path
        assert has(path.read_bytes(), TRANSFORMER) != feedback, path
        assert size(path.read_bytes()) == (6 * DOTS, 3.6 * DOTS)


def test_pictures_of_the_benchmark_are_the_recorded_numbers():
    """Three charts, drawn from the file beside them; each has one plot with named axes."""
    results = json.loads(BENCHMARK.read_text(encoding="utf-8"))
    axes = {}
    for part in ("train", "growth", "decode"):
        (axes[part],) = draw_part(part, results[part]).axes
        assert axes[part].get_xlabel()
        stored = (BENCHMARK.parent / f"{part}.png").read_bytes()
        assert size(stored)[0] == 5 * DOTS and has(stored, FEEDBACK) and has(stored, TRANSFORMER)
    kinds = {"feedback": FEEDBACK, "parallel": TRANSFORMER, "peer": OTHER}
    marks = [line for line in axes["train"].lines if len(line.get_xdata()) == 1]
    assert sorted((line.get_xdata()[0], line.get_color()) for line in marks) == sorted(
        (row["ratio"], kinds[row["kind"]])
        for rows in results["train"].values() for row in rows.values()
    )  # fmt: skip
    time, memory, one = axes["growth"].lines
    assert one.get_color() == TRANSFORMER and set(one.get_ydata()) == {1}
    for line, key in ((time, "median"), (memory, "peak_bytes")):
        ratios = []
        for rows in results["growth"]["T"].values():
            ours, fused = (row[key] for row in rows.values())
            ratios.append(ours / fused)
        assert line.get_color() == FEEDBACK and list(line.get_ydata()) == ratios
    speeds = {tuple(line.get_ydata()): line.get_color() for line in axes["decode"].lines}
    for lengths in results["decode"].values():
        for name, row in lengths["64"].items():
            drawn = tuple(rows[name]["tokens_per_second"] for rows in lengths.values())
            assert speeds[drawn] == kinds[row["kind"]]


@pytest.mark.parametrize("image", ["![words](a5.svg)", '![](a5.svg "caption")'])
def test_an_image_needs_both_its_words(image):
    """What it shows, for those who cannot see it, and what it is about."""
    from docs.annotate.markup import Formulas, Where, renderer
    from docs.annotate.pages import ENGLISH, Builder

    builder = Builder.__new__(Builder)
    builder.settings = SETTINGS
    where = Where(
        "docs/figures/x.md", 1, "x", lambda name: None, lambda link: link,
        lambda *words: builder.image("docs/figures/x.md", ENGLISH, *words),
    )  # fmt: skip
    render = renderer(Formulas())
    with pytest.raises(Mistake, match=r"x\.md:1: the image a5.svg .* an image needs a"):
        render(image, where)
    html = render('![words](a5.svg "a < b")\n![more](a5.svg "c")', where)
    assert html.count("<figure>") == 2 and "<figcaption>a &lt; b</figcaption>" in html
    assert html.startswith('<div class="beside">') and "<p>" not in html
