"""The benchmark measures what it claims, for every contestant; speed itself is not tested."""

import json

import pytest
import torch
from conftest import require_or_skip
from parity import NATIVE

from feedback import FeedbackLM, TransformerLM
from feedback.__main__ import main, parse
from feedback.benchmark import contestants, report
from feedback.benchmark import measure as b
from feedback.fast.compiled import missing

CPU = torch.device("cpu")
TINY = contestants.Size(D=16, L=3, H=2, T=6, B=2)


@pytest.fixture(autouse=True)
def one_thread():
    """On a busy machine, threads that wait for each other take minutes."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def ours() -> list[str]:
    """The names of our own contestants that can run here."""
    names = ["reference", "append", "sequence"] + ["native"] * (missing() is None)
    return [*(f"FeedbackLM {name}" for name in names), "TransformerLM", "RotaryLM"]


def peers() -> list[str]:
    """The names of all others, installed or not."""
    return [peer.name for peers in contestants.PEERS.values() for peer in peers]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A quick benchmark from the command line, otherwise with default options."""
    out = tmp_path_factory.mktemp("benchmark")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    arguments = ["benchmark", "--quick", "--rounds", "2", "--device", "cpu", "--out", str(out)]
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *text, file=None, **_: lines.append((file, *text)))
        assert main(arguments) == 0
    torch.set_num_threads(threads)
    said = "\n".join(str(text) for file, text in lines if file is None)
    (out / "said.txt").write_text(said, encoding="utf-8")
    return out


def test_numbers(folder):
    """The JSON has every contestant in every configuration: raw times and statistics of them."""
    results = json.loads((folder / b.RESULTS).read_text())
    assert set(results) == {"machine", "settings", "not_installed", "train", "growth", "decode"}
    assert results["machine"]["torch"] == torch.__version__
    assert results["machine"]["threads"] == 1
    assert results["settings"]["rounds"] == 2
    assert len(results["train"]) == 4
    here = [
        p.name
        for package in contestants.PEERS
        if contestants.installed(package)
        for p in contestants.PEERS[package]
    ]
    keys = {"seconds", "median", "quartiles", "ratio", "kind", "peak_bytes", "error"}
    for rows in results["train"].values():
        assert set(rows) == {*ours(), "fused Transformer", *here}
        for row in rows.values():
            assert set(row) == keys and row["error"] is None
            assert len(row["seconds"]) == 2 and row["peak_bytes"] > 0
    assert list(results["growth"]) == ["T", "B", "L"]
    for values in results["growth"].values():
        for rows in values.values():
            assert len(rows) == 2 and all(set(row) == keys for row in rows.values())
    assert list(results["decode"]) == ["1", "2"]
    for lengths in results["decode"].values():
        for rows in lengths.values():
            assert set(rows) == {"FeedbackLM", "TransformerLM", "fused Transformer"}
            for row in rows.values():
                assert set(row) == keys | {"tokens_per_second", "cache_bytes_per_token"}


def test_table_and_picture(folder):
    """The printed tables name every contestant, even those not installed; pictures are PNGs."""
    said = (folder / "said.txt").read_text(encoding="utf-8")
    for name in [*ours(), "fused Transformer", *peers()]:
        assert name in said
    for package in json.loads((folder / b.RESULTS).read_text())["not_installed"]:
        assert f"not installed (pip install {package})" in said
    for part in ("train", "growth", "decode"):
        assert (folder / f"{part}.png").read_bytes().startswith(b"\x89PNG")


def test_an_existing_benchmark_is_refused(folder, capsys):
    """Nothing is measured or changed without --overwrite."""
    before = (folder / b.RESULTS).read_bytes()
    assert main(["benchmark", "--quick", "--out", str(folder)]) == 2
    err = capsys.readouterr().err
    assert "already holds a benchmark; replace it with --overwrite" in err
    assert err.count("\n") == 1
    assert (folder / b.RESULTS).read_bytes() == before


def test_what_was_measured_is_kept(tmp_path, monkeypatch):
    """Who stops the benchmark in its second part keeps the first."""

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setitem(b.MEASURES, "growth", stop)
    settings = b.Settings(
        rounds=1, configs=("d128",), implementations=("append",), quick=True, device="cpu"
    )
    with pytest.raises(KeyboardInterrupt):
        b.benchmark(settings, tmp_path)
    results = json.loads((tmp_path / b.RESULTS).read_text())
    assert len(results["train"]) == 1 and "growth" not in results


def test_overwrite_and_selection(tmp_path, capsys):
    """With --overwrite the old benchmark is replaced; only what was asked for is measured."""
    for name in (b.RESULTS, "train.png"):
        (tmp_path / name).write_text("old")
    arguments = "benchmark --quick --rounds 1 --parts decode --device cpu --overwrite --out"
    assert main([*arguments.split(), str(tmp_path)]) == 0
    results = json.loads((tmp_path / b.RESULTS).read_text())
    assert "decode" in results and "train" not in results and "growth" not in results
    assert (tmp_path / "decode.png").exists() and not (tmp_path / "train.png").exists()
    assert "decode.png" in capsys.readouterr().out


def test_selected_implementations(monkeypatch):
    """--implementations and --configs restrict the training step."""
    monkeypatch.setattr(b, "PEERS", {})
    settings = parse(
        "benchmark --quick --rounds 1 --configs d256 --implementations append".split()
    ).settings
    ((size, rows),) = b.measure_train(settings, CPU).items()
    assert size == "d32 L2 H2 T8 B2"
    assert list(rows) == ["FeedbackLM append", "TransformerLM", "RotaryLM", "fused Transformer"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("--parts sing", "sing"),
        ("--configs d1", "d1"),
        ("--implementations magic", "magic"),
        ("--rounds 0", "rounds is 0, expected at least 1"),
        ("--device gpu", "device is 'gpu'"),
    ],
)
def test_mistakes(tmp_path, capsys, arguments, words):
    """Exit code 2, one line that says what is wrong, nothing measured, nothing written."""
    assert main(["benchmark", "--quick", "--out", str(tmp_path), *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err
    assert not list(tmp_path.iterdir())


def test_sizes():
    """The configurations are those for which the project states its numbers."""
    settings = b.Settings()
    assert [str(settings.size(name)) for name in settings.configs] == [
        "d128 L4 H4 T64 B32",
        "d256 L4 H4 T128 B32",
        "d512 L6 H8 T64 B16",
        "d128 L4 H4 T512 B8",
    ]
    config = settings.size("d256").config()
    assert (config.d_ff, config.mem_len) == (1024, 128)


def toy(name, kind, calls, fails=False):
    """An entry that writes down its calls."""

    def step():
        calls.append(name)
        if fails and calls.count(name) == 2:
            raise RuntimeError("no such luck")

    return b.Entry(contestants.Contestant(name, None, kind), lambda: (step, lambda: None), CPU)


def test_contestants_take_turns(capsys):
    """After the warm-up, one turn each and round after round."""
    calls = []
    entries = [toy("a", "feedback", calls), toy("b", "parallel", calls)]
    rows = b.race("race", entries, rounds=3, budget=1e9, count_memory=False)
    assert calls == ["a", "b"] + 3 * ["a", "b"]
    assert [len(row["seconds"]) for row in rows.values()] == [3, 3]
    capsys.readouterr()


def test_slow_contestants_get_fewer_turns():
    """Three turns are spread over ten rounds; any number of turns comes out as asked."""
    assert [i for i in range(10) if b.is_due(i, 3, 10)] == [3, 6, 9]
    for turns in range(1, 11):
        assert sum(b.is_due(i, turns, 10) for i in range(10)) == turns


def test_no_budget_is_three_turns(capsys):
    """At least three, even if there is time for none; but never more than there are rounds."""
    for rounds in (2, 8):
        calls = []
        b.race("race", [toy("a", "parallel", calls)], rounds, budget=0, count_memory=False)
        assert len(calls) == 1 + min(3, rounds)
    capsys.readouterr()


def test_a_peer_that_fails(capsys):
    """It is reported in its row, and the race goes on; if one of ours fails, the race fails."""
    calls = []
    entries = [toy("a", "parallel", calls), toy("b", "peer", calls, fails=True)]
    rows = b.race("race", entries, rounds=3, budget=1e9, count_memory=False)
    assert rows["b"]["error"] == "RuntimeError: no such luck"
    assert rows["b"]["median"] is rows["b"]["ratio"] is None
    assert calls.count("a") == 4 and calls.count("b") == 2
    rows["a"]["peak_bytes"] = 0
    assert "b: RuntimeError: no such luck" in report.table_train({"size": rows})
    # Who failed has a row in the picture, and no mark in it.
    (axes,) = report.draw_part("train", {"size": rows}).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a", "b"]
    assert [list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) == 1] == [["a"]]
    with pytest.raises(RuntimeError, match="no such luck"):
        b.race("race", [toy("c", "feedback", [], fails=True)], 3, budget=1, count_memory=False)
    capsys.readouterr()


def test_a_peer_that_cannot_be_built(capsys):
    """The same if it fails before its first step."""
    size, broken = TINY, contestants.Contestant("broken", lambda config: 1 / 0, "peer")
    entries = [b.training(broken, size, CPU), b.training(contestants.FUSED, size, CPU)]
    rows = b.race("race", entries, rounds=1, budget=1)
    assert rows["broken"]["error"].startswith("ZeroDivisionError")
    capsys.readouterr()


def test_statistics():
    """Medians, quartiles and ratios of known numbers; the unit is the fastest Transformer."""
    assert b.summarise([5.0, 1.0, 2.0, 4.0, 3.0]) == {
        "seconds": [5.0, 1.0, 2.0, 4.0, 3.0],
        "median": 3.0,
        "quartiles": [2.0, 4.0],
    }
    assert b.summarise([2.0])["quartiles"] == [2.0, 2.0]
    assert b.summarise([])["median"] is None
    kinds = {"a": "feedback", "b": "parallel", "c": "parallel", "d": "peer", "e": "peer"}
    medians = {"a": 3.0, "b": 4.0, "c": 2.0, "d": 1.0, "e": None}
    rows = b.add_ratios({n: {"kind": kinds[n], "median": medians[n]} for n in kinds})
    assert {n: row["ratio"] for n, row in rows.items()} == {
        "a": 1.5, "b": 2.0, "c": 1.0, "d": 0.5, "e": None
    }  # fmt: skip


def test_table_columns():
    """Columns line up at the right, names at the left, single cells stand alone."""
    assert report.table(["x", "ms"], [["a heading of its own"], ["long name", "1"]]) == (
        "x          ms\na heading of its own\nlong name   1"
    )


def test_peak_memory_on_cpu():
    """The largest sum of what is alive at once, and not the sum of all."""

    def step():
        for _ in range(3):
            a = torch.empty(1000, dtype=torch.float32)
            c = torch.empty(500, dtype=torch.float32)
            del a, c

    assert b.peak_memory(step, CPU) == 6000


def test_peak_memory_of_a_step_has_the_gradients():
    """At least the gradients are allocated, and they are still alive at the end."""
    entry = b.training(contestants.FUSED, TINY, CPU)
    entry.begin(count_memory=True)
    parameters = sum(p.numel() for p in contestants.FusedTransformer(TINY.config()).parameters())
    assert entry.peak >= 4 * parameters


@pytest.mark.parametrize("name", ["sequence", NATIVE])
@pytest.mark.parametrize("T", [128, 256])
def test_the_whole_sequence_needs_no_more_memory_than_appending(T, name):
    """At its peak a training step of either sweep stays below that of "append"."""
    size, peaks = contestants.Size(D=64, L=3, H=2, T=T, B=16), []
    for implementation in (name, "append"):
        entry = b.training(contestants.feedback(implementation), size, CPU)
        entry.begin(count_memory=True)
        peaks.append(entry.peak)
    assert 0 < peaks[0] <= peaks[1]


def test_memory_grows_in_proportion_to_the_length():
    """
    Apart from the attention weights, which are subtracted, twice the steps are twice the bytes.
    """
    peaks, attention = [], []
    for T in (128, 256):
        size = contestants.Size(D=64, L=3, H=2, T=T, B=16)
        entry = b.training(contestants.feedback("auto"), size, CPU)
        entry.begin(count_memory=True)
        peaks.append(entry.peak)
        attention.append(4 * size.L * size.H * size.B * T * (T - 1) // 2)
    rest = [peak - weights for peak, weights in zip(peaks, attention, strict=True)]
    assert 1.5 < rest[1] / rest[0] <= 2.02


def test_fused_baseline_is_causal():
    """A later token changes no earlier logit, and every later one."""
    torch.manual_seed(0)
    model = contestants.FusedTransformer(TINY.config()).double()
    tokens = torch.randint(65, (1, 6))
    other = tokens.clone()
    other[0, 3] = (other[0, 3] + 1) % 65
    change = (model(tokens) - model(other)).abs().amax(-1)[0]
    assert (change[:3] == 0).all() and (change[3:] > 0).all()


def test_fused_baseline_has_the_matrices_it_states():
    """`4DHK + 2DF` a layer, as many as `TransformerLM` has."""
    config = TINY.config()
    D, HK, F = config.d_model, config.n_heads * config.head_dim, config.d_ff
    for model in (
        contestants.FusedTransformer(config).layers,
        TransformerLM(config).transformer.layers,
    ):
        for layer in model:
            matrices = (m.weight.numel() for m in layer.modules() if isinstance(m, torch.nn.Linear))
            assert sum(matrices) == 4 * D * HK + 2 * D * F


def test_fused_baseline_decodes_as_it_computes():
    """Decoding with the cache gives the argmax of the whole sequence, computed at once."""
    torch.manual_seed(0)
    model = contestants.FusedTransformer(TINY.config()).double()
    out = model.generate(torch.zeros(2, 1, dtype=torch.int64), 6)
    assert out.shape == (2, 7)
    assert torch.equal(model(out[:, :-1]).argmax(-1), out[:, 1:])


def test_cache_bytes():
    """`2HK` numbers a token whatever the depth, against `2LHK`."""
    config = TINY.config()
    numbers = 2 * config.n_heads * config.head_dim
    for dtype, size in ((torch.float32, 4), (torch.float64, 8)):
        assert b.cache_bytes(FeedbackLM(config).to(dtype)) == numbers * size
        for cls in (TransformerLM, contestants.FusedTransformer):
            assert b.cache_bytes(cls(config).to(dtype)) == config.n_layers * numbers * size


@pytest.mark.parametrize("contestant", [p for ps in contestants.PEERS.values() for p in ps])
def test_peers_are_tokens_to_logits(contestant, capsys):
    """Each peer is what the comparison needs: causal, and with a gradient for what it uses."""
    package = next(name for name, peers in contestants.PEERS.items() if contestant in peers)
    require_or_skip(package.replace("-", "_"))
    torch.manual_seed(0)
    model = contestant.build(TINY.config())
    tokens = torch.randint(65, (2, 6))
    logits = model(tokens)
    assert logits.shape == (2, 6, 65)
    tokens[:, 5] = (tokens[:, 5] + 1) % 65
    torch.testing.assert_close(model(tokens)[:, :5], logits[:, :5])
