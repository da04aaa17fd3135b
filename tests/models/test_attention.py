"""Attention: each road of it gives what the plain formula gives."""

import pytest
import torch

from tubelet.models.attention import SHORT_ROW, attend


def run(road, precision, query, key, value):
    """Return the output and three gradients in float32."""
    given = [tensor.to(precision).requires_grad_() for tensor in (query, key, value)]
    output = road(*given)
    output.backward(torch.linspace(-1, 1, output.numel()).view_as(output).to(precision))
    return [tensor.detach().float() for tensor in (output, *(one.grad for one in given))]


def mix_plainly(query, key, value):
    return (query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5).softmax(-1) @ value


@pytest.mark.parametrize("seeing", [1, 12])
@pytest.mark.parametrize("tokens", [12, SHORT_ROW + 2])
@pytest.mark.parametrize(("precision", "most"), [(torch.float32, 1e-5), (torch.bfloat16, 0.02)])
def test_every_road_gives_what_the_formula_gives(seeing, tokens, precision, most):
    torch.manual_seed(0)
    query, key, value = (torch.randn(3, count, 2, 8).transpose(1, 2) for count in (seeing, tokens, tokens))
    expected = run(mix_plainly, torch.float64, query, key, value)
    for found, wanted in zip(run(attend, precision, query, key, value), expected, strict=True):
        assert (found - wanted).norm() < most * wanted.norm()


def test_dropped_weights_leave_the_mean_as_it_is():
    torch.manual_seed(0)
    query, key, value = (torch.ones(4, 2, 300, 8, dtype=torch.bfloat16, requires_grad=True) for _ in range(3))
    dropped = attend(query, key, value, dropout=0.5)
    assert dropped.unique().numel() > 10
    assert dropped.float().mean().item() == pytest.approx(1, abs=0.02)


def test_the_matrix_of_weights_is_kept_for_short_rows_in_bfloat16_alone():
    def count_kept(precision, tokens):
        kept = []
        query = torch.randn(1, 1, tokens, 8, dtype=precision, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(lambda tensor: kept.append(tensor.numel()), lambda _: None):
            attend(query, query, query)
        return sum(size == tokens**2 for size in kept)

    assert count_kept(torch.bfloat16, 40) > 0
    assert (count_kept(torch.float32, 40), count_kept(torch.bfloat16, SHORT_ROW + 1)) == (0, 0)
