"""The paper's programs: an interpreter that reads their words must print their labels."""

import itertools
import random
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback.data.text import IGNORE
from feedback.experiments.programs import Programs, WholePrograms


def value_of(word: str, values: dict[str, int]) -> int:
    """A number, or what a variable holds; `KeyError` if it holds nothing."""
    return int(word) if word.isdigit() else values[word]


def carry_out(statement: list[str], values: dict[str, int]) -> str:
    """Changes `values`; returns the variable that is named. Fails if it breaks a rule."""
    match statement:
        case [v, "=", number]:
            assert v not in values
            values[v] = int(number)
        case [v, "++"]:
            values[v] += 1
        case [v, "--"]:
            values[v] -= 1
        case ["print", v]:
            pass
        case _:
            raise AssertionError(statement)
    assert 1 <= values[v] <= 10 and v in "xyzpr"
    return v


def reading(simple: list[str], values: dict[str, int], here: dict[str, int]) -> list:
    """What is said at each word of a simple statement; `here` it is carried out."""
    v = simple[simple[0] == "print"]
    before = values.get(v, "_")
    carry_out(simple, here)
    after = values.get(v, "_")
    said = {"=": ["_", "_", after, after], "print": ["_", before, after]}
    return said.get(simple[0], said.get(simple[1], [before, after, after]))


def replay(words: list[str], dense: bool = False) -> list[str]:
    """The labels of a program, up to its last whole statement. Fails if it breaks a rule."""
    values: dict[str, int] = {}
    labels: list[str] = []
    start = 0
    for end, word in enumerate(words):
        if word != ";":
            continue
        statement, here, said, start = words[start:end], values, [], end + 1
        if statement[0] == "if":
            _, v, sign, c, colon, *statement = statement
            assert sign in "<>" and colon == ":" and c != v and statement[0] not in ("if", "print")
            left, right = values[v], value_of(c, values)
            holds = left < right if sign == "<" else left > right
            if not holds:
                here = dict(values)
            said = ["_", left, left, right, "yes" if holds else "no"]
        said += reading(statement, values, here)
        if not dense:
            said = ["_"] * (len(said) - 1) + [said[-1] if statement[0] == "print" else "_"]
        labels += map(str, said)
    # `END`, or a statement that was cut, of which nothing is known.
    return labels + ["_"] * (len(words) - start)


def words_of(task: Programs, tokens: torch.Tensor) -> list[str]:
    """The words of a text."""
    return [task.words[i] for i in tokens.tolist()]


def answers_of(labels: torch.Tensor) -> list[str]:
    """The labels as words, as the authors' files have them, and two of ours."""
    words = {IGNORE: "_", 10: "no", 11: "yes"}
    return [words.get(label, str(label + 1)) for label in labels.tolist()]


def programs_of(task: Programs, n: int, seed: int) -> list[tuple[list[str], list[str]]]:
    """The words and labels of `n` programs, `END` being the last word of each."""
    tokens, labels = task.corpus(n, torch.Generator().manual_seed(seed))
    words, answers = words_of(task, tokens), answers_of(labels)
    ends = [i + 1 for i, word in enumerate(words) if word == "END"]
    assert ends[-1] == len(words)
    return [(words[a:b], answers[a:b]) for a, b in zip([0, *ends], ends, strict=False)]


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("x = 3 ; x ++ ; y = 9 ; if x < y : y -- ; print y ;", "8"),
        ("x = 3 ; if x > 3 : x ++ ; print x ; if x < 4 : x ++ ; print x ;", "3 4"),
        # The assignment has no effect, so a second one is no mistake.
        ("x = 3 ; if x > 5 : y = 2 ; y = 7 ; print y ;", "7"),
    ],
)
def test_the_interpreter_by_hand(text, labels):
    """What is printed was found by reading."""
    assert [label for label in replay(text.split()) if label != "_"] == labels.split()


@pytest.mark.parametrize(
    "text",
    [
        "x = 3 ; x = 4 ;",
        "x ++ ;",
        "x = 10 ; x ++ ;",
        "x = 1 ; x -- ;",
        "x = 3 ; print y ;",
        "x = 3 ; if x < y : x ++ ;",
        "x = 3 ; if x < x : x ++ ;",
        "x = 3 ; if x < 9 : print x ;",
        "x = 3 ; if x < 9 : if x < 9 : x ++ ;",
        # On a copy the rules are the same.
        "x = 1 ; if x > 5 : x -- ;",
    ],
)
def test_the_interpreter_sees_a_broken_rule(text):
    """Each breaks one."""
    with pytest.raises((AssertionError, KeyError)):
        replay(text.split())


def tasks():
    """Programs of all kinds."""
    return st.builds(
        Programs,
        n_variables=st.sampled_from([3, 5]),
        statements=st.integers(2, 30),
        prints=st.sampled_from([None, 0.05, 0.5]),
        dense=st.booleans(),
    )


@settings(max_examples=40)
@given(tasks(), st.integers(0, 2**31), st.integers(1, 20))
def test_every_label_is_what_the_program_prints(task, seed, n):
    """No program breaks a rule, each has its number of statements, and each label is right."""
    programs = programs_of(task, n, seed)
    assert len(programs) == n
    for words, labels in programs:
        assert words[-2:] == [";", "END"] and words.count(";") == task.statements
        assert labels == replay(words, task.dense)


@pytest.mark.parametrize("n_variables", [3, 5])
def test_whole_programs(n_variables):
    """So it is with programs of 100 statements, more of them than are written at once."""
    programs = programs_of(Programs(n_variables), 1200, seed=1)
    assert len(programs) == 1200 and all(words.count(";") == 100 for words, _ in programs)
    for words, labels in programs[::6]:
        assert labels == replay(words)


@settings(max_examples=40)
@given(tasks(), st.integers(0, 2**31), st.integers(1, 6), st.integers(7, 120))
def test_rows_are_programs_one_after_the_other(task, seed, B, T):
    """A row begins with a program, and is cut wherever its end happens to be.

    What is left of a statement that was cut has labels that this interpreter does not know.
    """
    batch = task.draw(B, T, torch.Generator().manual_seed(seed))
    assert batch.new and batch.tokens.shape == batch.targets.shape == (B, T)
    for tokens, targets in zip(batch.tokens, batch.targets, strict=True):
        words, labels = words_of(task, tokens), []
        known = max(i for i, word in enumerate(words) if word in (";", "END")) + 1
        ends = [i + 1 for i, word in enumerate(words) if word == "END"]
        for start, end in zip([0, *ends], [*ends, T], strict=True):
            labels += replay(words[start:end], task.dense)
            whole = start < end and words[end - 1] == "END"
            assert not whole or words[start:end].count(";") == task.statements
        assert labels[:known] == answers_of(targets)[:known]
        assert task.dense or labels == answers_of(targets)


def test_rows_differ_and_seeds_repeat():
    """The rows of a batch are drawn independently; the same seed draws the same."""
    task = Programs(5)
    first = task.draw(4, 500, torch.Generator().manual_seed(1))
    assert len(set(map(tuple, first.tokens.tolist()))) == 4
    assert torch.equal(task.draw(4, 500, torch.Generator().manual_seed(1)).tokens, first.tokens)
    assert not torch.equal(task.draw(4, 500, torch.Generator().manual_seed(2)).tokens, first.tokens)


@pytest.mark.parametrize(("n_variables", "size"), [(3, 24), (5, 26)])
def test_the_vocabulary(n_variables, size):
    """All words occur but `_`, and all values are printed."""
    task = Programs(n_variables)
    tokens, labels = task.corpus(50, torch.Generator().manual_seed(1))
    assert task.vocab_size == size == len(set(task.words)) and task.n_labels == 10
    assert {task.words[i] for i in tokens.unique()} == set(task.words) - {"_"}
    assert labels[labels != IGNORE].unique().tolist() == list(range(10))


@pytest.mark.parametrize(("n_variables", "copied"), [(3, 0.289), (5, 0.229)])
def test_the_counts_by_which_we_go(n_variables, copied):
    """Tokens and prints of a program; how often a print repeats the print before it."""
    N, task = 3000, Programs(n_variables)
    x, y = task.corpus(N, torch.Generator().manual_seed(1))
    program = (x == task.words.index("END")).cumsum(0)
    tokens, prints = len(x) / N, (y != IGNORE).sum().item() / N
    printed, program = y[y != IGNORE], program[y != IGNORE]
    follow = program[1:] == program[:-1]
    repeated = (printed[1:] == printed[:-1])[follow].float().mean().item()
    # Each tolerance is about four standard errors, and how far our mean is from the count.
    assert tokens == pytest.approx(431.6, abs=2)
    assert prints == pytest.approx(25.5, abs=0.75)
    assert repeated == pytest.approx(copied, abs=0.012)


def redrawn(rng, names, values, inner=False):
    """One statement by the rules, drawn again as a whole until it does not fail."""
    while True:
        match rng.choice(["=", "++", "--", "if", "print"]):
            case "=":
                free = [v for v in names if v not in values]
                statement = [rng.choice(free), "=", str(rng.randint(1, 10))] if free else []
            case "if" if not inner:
                v, sign, c = rng.choice(names), rng.choice("<>"), str(rng.randint(1, 10))
                if rng.random() < 0.5:
                    c = rng.choice([w for w in values if w != v] or [""])
                if v not in values or not c:
                    continue
                left, right = values[v], value_of(c, values)
                holds = left < right if sign == "<" else left > right
                copy = values if holds else dict(values)
                return ["if", v, sign, c, ":", *redrawn(rng, names, copy, inner=True)]
            case "print" if not inner:
                statement = ["print", rng.choice(names)]
            case ("++" | "--") as change:
                statement = [rng.choice(names), change]
            case _:
                continue
        try:
            after = dict(values)
            carry_out(statement, after)
        except (AssertionError, KeyError):
            continue
        values.update(after)
        return [*statement, ";"]


def kinds(words: list[str]) -> Counter:
    """What is counted: the operations in their order, words, and variables compared with."""
    text = tuple(w for w in words if w in ("=", "++", "--", "if", "print"))
    compared = [after for w, after in itertools.pairwise(words) if w in "<>" and after in "xyzpr"]
    return Counter([text, *words, *(["variable compared with"] * len(compared))])


@pytest.mark.parametrize("n_variables", [3, 5])
def test_the_distribution_is_that_of_the_rules(n_variables):
    """
    All programs written at once are distributed as those that are written one after the other:
    every sequence of operations and every word is as frequent, up to chance. Short programs are
    compared, since a program's beginning is where draws fail most.
    """
    N, rng, names = 6000, random.Random(1), list("xyzpr"[:n_variables])
    ours, theirs = Counter(), Counter()
    for words, _ in programs_of(Programs(n_variables, statements=4), N, seed=1):
        ours.update(kinds(words))
    for _ in range(N):
        values: dict[str, int] = {}
        words = [word for _ in range(4) for word in redrawn(rng, names, values)]
        theirs.update(kinds([*words, "END"]))
    assert set(map(str, ours)) >= {"('=', 'print', '=', 'print')", "variable compared with"}
    for kind in ours | theirs:
        assert abs(ours[kind] - theirs[kind]) < 5 * (ours[kind] + theirs[kind] + 1) ** 0.5, kind


def test_more_prints():
    """With `prints` more is asked."""
    _, labels = Programs(3, 20, prints=0.6).corpus(100, torch.Generator().manual_seed(1))
    assert (labels != IGNORE).sum() > 100 * 20 * 0.55


def test_a_program_read_aloud():
    """Found by reading: a label at each word, and after a false condition nothing has changed."""
    words = "x = 3 ; if x < 7 : x ++ ; print x ; if x > 9 : y = 2 ; if x > 9 : x -- ;".split()
    labels = "_ _ 3 3 _ 3 3 7 yes 3 4 4 _ 4 4 _ 4 4 9 no _ _ _ _ _ 4 4 9 no 4 4 4"
    assert replay(words, dense=True) == labels.split()


def test_dense_or_not_the_prints_are_the_same():
    """The same programs, and at the `;` of a print the same label; no other label is left out."""
    (x, few), (y, many) = (
        Programs(3, 20, dense=dense).corpus(50, torch.Generator().manual_seed(1))
        for dense in (False, True)
    )
    assert torch.equal(x, y) and torch.equal(few[few != IGNORE], many[few != IGNORE])
    assert (few != IGNORE).float().mean() < 0.07 < 0.6 < (many != IGNORE).float().mean()


@pytest.mark.parametrize("T", [100, 512])
def test_an_examination_of_whole_programs(T):
    """A row is the same program, up to its end, and behind it nothing is asked."""
    rows, whole = (
        kind(3, 30).draw(64, T, torch.Generator().manual_seed(1))
        for kind in (Programs, WholePrograms)
    )
    task, ended = WholePrograms(3, 30), 0
    for old, new, labels in zip(rows.tokens, whole.tokens, whole.targets, strict=True):
        words = words_of(task, new)
        length = words.index("END") if "END" in words else T
        assert torch.equal(old[:length], new[:length]) and set(words[length:]) <= {"END"}
        assert answers_of(labels)[:length] == replay(words[:length])
        assert (labels[length:] == IGNORE).all()
        ended += length < T and words[:length].count(";") == 30
    assert ended == 64 if T == 512 else ended < 64


def test_an_example():
    """Words, and below them what is printed."""
    for dense in (False, True):
        words, labels = (line.split() for line in Programs(3, dense=dense).describe().split("\n"))
        assert labels == replay(words, dense) and words[-1] == "END"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: Programs(4), "n_variables is 4, expected 3 or 5"),
        (lambda: Programs(3, 1), "statements is 1, expected a whole number of at least 2"),
        (lambda: Programs(3, 2.5), "statements is 2.5"),
        (lambda: Programs(3, prints=1), "prints is 1, expected a share"),
        (lambda: Programs(3).draw(0, 9, torch.Generator()), "B = 0, T = 9"),
        (lambda: Programs(3).draw(1, 6, torch.Generator()), "T = 6, expected .* at least 7"),
        (lambda: Programs(3, dense=True).draw(1, 2, torch.Generator()), "at least 3"),
        (lambda: Programs(3).corpus(0, torch.Generator()), "programs is 0"),
    ],
)
def test_what_makes_no_sense(call, words):
    """Each names what is wrong."""
    with pytest.raises(ValueError, match=words):
        call()
