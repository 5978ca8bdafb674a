"""The custom autograd function: its gradient, its second derivative, and that it copies nothing."""

import pytest
import torch

from feedback.fast.append import Append, GrowingWindow


def read_all(past, rows, mem_len):
    """Appends the rows and mixes every window nonlinearly into one result."""
    window = GrowingWindow(past, len(rows), mem_len)
    results = [window.rows.sum(dim=2)]
    for row in rows:
        window.append(row)
        weights = torch.linspace(1, 2, window.rows.shape[2], dtype=past.dtype)
        results.append((window.rows.sin() * weights[:, None]).sum(dim=2))
    return torch.stack(results)


@pytest.mark.parametrize("S", [0, 1, 3])
@pytest.mark.parametrize("mem_len", [3, 10])
def test_first_and_second_derivatives(S, mem_len):
    """`gradcheck` and `gradgradcheck`, with and without carried rows, before and after sliding."""
    torch.manual_seed(0)
    past = torch.randn(2, 1, S, 2, dtype=torch.float64, requires_grad=True)
    rows = torch.randn(5, 2, 1, 2, dtype=torch.float64, requires_grad=True)

    def f(past, rows):
        return read_all(past, rows, mem_len)

    assert torch.autograd.gradcheck(f, (past, rows))
    assert torch.autograd.gradgradcheck(f, (past, rows))


def test_windows_are_what_concatenation_gives():
    """Each window holds the last `mem_len` rows, in order."""
    past, rows = torch.randn(2, 3, 2, 4), torch.randn(6, 2, 3, 4)
    window, expected = GrowingWindow(past, 6, mem_len=4), past
    for row in rows:
        window.append(row)
        expected = torch.cat([expected, row.unsqueeze(2)], dim=2)[:, :, -4:]
        assert torch.equal(window.rows, expected)


def test_all_windows_share_one_buffer():
    """No row is copied when another one is appended."""
    rows = torch.randn(5, 2, 1, 4, requires_grad=True)
    window = GrowingWindow(torch.empty(2, 1, 0, 4), 5, mem_len=3)
    storages = set()
    for row in rows:
        window.append(row)
        storages.add(window.rows.untyped_storage().data_ptr())
    assert storages == {window.buffer.untyped_storage().data_ptr()}


@pytest.mark.parametrize(
    ("window", "end", "words"),
    [
        (slice(0, 2), 2, None),
        (slice(1, 4), 4, None),
        (slice(0, 1), 2, r"the window has the shape \(2, 1, 1, 4\), expected \(2, 1, 2, 4\)"),
        (slice(0, 3), 4, "the window is not what rows 1 to 3 of the buffer hold"),
        (slice(2, 5), 5, "end is 5, expected a row of the buffer, 0 to 4"),
    ],
)
def test_the_window_is_the_last_rows(window, end, words):
    """Any other window would receive the gradients of the wrong rows."""
    buffer = torch.randn(2, 1, 5, 4)
    arguments = buffer[:, :, window], torch.zeros(2, 1, 4), buffer, end, 3
    if words is None:
        assert Append.apply(*arguments).shape[2] == 3
        return
    with pytest.raises(ValueError, match=words):
        Append.apply(*arguments)
    with pytest.raises(ValueError, match="the row has the shape"):
        Append.apply(buffer[:, :, :2], torch.zeros(2, 1, 5), buffer, 2, 3)


def test_a_plain_write_would_be_refused():
    """Why `Append.forward` writes through `.data`: otherwise autograd rejects the saved windows."""

    class PlainAppend(Append):
        @staticmethod
        def forward(ctx, window, row, buffer, end, mem_len):
            ctx.dropped = 0
            buffer[:, :, end] = row
            return buffer[:, :, : end + 1]

    rows = torch.randn(2, 1, 1, 3, requires_grad=True)
    buffer, window, total = torch.empty(1, 1, 2, 3), torch.empty(1, 1, 0, 3), 0.0
    for end, row in enumerate(rows):
        window = PlainAppend.apply(window, row, buffer, end, 2)
        total = total + window.square().sum()
    with pytest.raises(RuntimeError, match="modified inplace"):
        total.backward()
