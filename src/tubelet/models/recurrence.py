"""Read rows of vectors with recurrent cells, in Keras' form: from first to last, or from both sides."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from tubelet.models.cnn_sequence_config import Cell

__all__ = ["Recurrence", "TwoWayRecurrence"]

GATES: dict[Cell, int] = {"gru": 3, "lstm": 4, "rnn": 1}
"""Products of a cell in one step."""


class Recurrence(nn.Module):
    """Read rows of vectors from first to last with one recurrent layer in Keras' form.

    Torch's own GRU computes the same (Keras' `reset_after=True`), its LSTM and plain cell too but for a second bias
    that adds nothing. Written out, the layer has Keras' counts and exports as plain products; its steps are few.

    Gates lie in torch's order: reset, update, new (gru); input, forget, new, output (lstm). First weights are Keras':
    Glorot uniform, orthogonal from state to state, biases zero but for the forget gate's, which start at 1.

    Args:
        cell: `gru`, `lstm` or `rnn` (tanh).
        inputs: length of the vectors read.
        units: length of the state.

    Source: arXiv 1406.1078v1 (GRU; the reset after the product), arXiv 1402.1128 (LSTM), and their layers in Keras.
    """

    def __init__(self, cell: Cell, inputs: int, units: int) -> None:
        super().__init__()
        self.cell = cell
        self.units = units
        self.read = nn.Linear(inputs, GATES[cell] * units)
        self.recur = nn.Linear(units, GATES[cell] * units, bias=cell == "gru")
        self.reset()

    @torch.no_grad()
    def reset(self) -> None:
        """Draw fresh weights."""
        nn.init.xavier_uniform_(self.read.weight)
        nn.init.orthogonal_(self.recur.weight)
        for layer in (self.read, self.recur):
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.cell == "lstm":
            self.read.bias[self.units : 2 * self.units] = 1.0

    def forward(
        self,
        rows: Float[Tensor, "row token dim"],
        lengths: Int[Tensor, " row"] | None = None,  # noqa: ARG002  states before the padding cannot see it
    ) -> Float[Tensor, "row token {self.units}"]:
        """Return the state after every vector."""
        read = self.read(rows)
        state = memory = read.new_zeros(rows.shape[0], self.units)
        states = []
        for moment in read.unbind(1):
            state, memory = self.step(moment, state, memory)
            states.append(state)
        return torch.stack(states, dim=1)

    def step(
        self, read: Float[Tensor, "row gates"], state: Float[Tensor, "row units"], memory: Float[Tensor, "row units"]
    ) -> tuple[Float[Tensor, "row units"], Float[Tensor, "row units"]]:
        """Return the next state, and the next memory of an LSTM; other cells hand it on.

        Args:
            read: the projected vector of this moment.
            state: the state before.
            memory: the memory before.
        """
        recurred = self.recur(state)
        if self.cell == "rnn":
            return torch.tanh(read + recurred), memory
        if self.cell == "lstm":
            let_in, forget, new, let_out = (read + recurred).chunk(4, dim=-1)
            memory = torch.sigmoid(forget) * memory + torch.sigmoid(let_in) * torch.tanh(new)
            return torch.sigmoid(let_out) * torch.tanh(memory), memory
        reset, update, new = read.chunk(3, dim=-1)
        reset_state, update_state, new_state = recurred.chunk(3, dim=-1)
        new = torch.tanh(new + torch.sigmoid(reset + reset_state) * new_state)
        kept = torch.sigmoid(update + update_state)
        return kept * state + (1 - kept) * new, memory


class TwoWayRecurrence(nn.Module):
    """Read rows from first to last and from last to first, each with a layer of its own, and join the states.

        states of vector t: [ after vectors 1..t | after vectors T..t ],  T the last real one of the row

    A row is turned around within its real part, so that what stands in the padding comes last both times.

    Args:
        cell: `gru`, `lstm` or `rnn` (tanh).
        inputs: length of the vectors read.
        units: length of the state of each of the two.

    Source: Schuster and Paliwal 1997, "Bidirectional recurrent neural networks".
    """

    def __init__(self, cell: Cell, inputs: int, units: int) -> None:
        super().__init__()
        self.onward = Recurrence(cell, inputs, units)
        self.homeward = Recurrence(cell, inputs, units)

    def forward(
        self, rows: Float[Tensor, "row token dim"], lengths: Int[Tensor, " row"] | None = None
    ) -> Float[Tensor, "row token dim2"]:
        """Return both states at every vector; what stands at padded ones means nothing.

        Args:
            rows: vectors, padded at the end.
            lengths: how many vectors of each row are real; all of them without it.
        """
        returned = _turn_around(self.homeward(_turn_around(rows, lengths)), lengths)
        return torch.cat([self.onward(rows), returned], dim=-1)


def _turn_around(
    rows: Float[Tensor, "row token dim"], lengths: Int[Tensor, " row"] | None
) -> Float[Tensor, "row token dim"]:
    """Reverse the order of the real vectors of each row; padding stays where it is."""
    if lengths is None:
        return rows.flip(1)
    index = torch.arange(rows.shape[1], device=rows.device)
    ends = lengths.to(rows.device).long()[:, None]
    order = torch.where(index < ends, ends - 1 - index, index)
    return rows.gather(1, order[:, :, None].expand(rows.shape))
