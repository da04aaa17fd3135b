"""Average values by the agreement of queries and keys, by the fastest road that a device has: softmax(q k' / sqrt d) v.

device, precision, tokens            road
any but those below                  torch's fused attention: the matrix of weights is never kept
CPU, more than SHORT_ROW tokens      the same, of tensors laid out anew head by head
CPU, bfloat16, at most SHORT_ROW,    two products of matrices, which the CPU has units for; the matrix of weights
  gradients wanted                   is kept: torch's fused gradient takes 1.6 to 9 times as long here
"""

import torch
import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float
from torch import Tensor

__all__ = ["SHORT_ROW", "attend"]

SHORT_ROW = 400
"""Most tokens in a row whose matrix of weights may be kept: 392 tokens won by a third, 784 lost."""


def attend(
    query: Float[Tensor, "row heads seeing d"],
    key: Float[Tensor, "row heads token d"],
    value: Float[Tensor, "row heads token d"],
    dropout: float = 0.0,
) -> Float[Tensor, "row heads seeing d"]:
    """Let every query see the tokens of its row.

    Args:
        query: what looks.
        key: what is looked at.
        value: what is seen there.
        dropout: share of the weights that are dropped; 0 when not training.

    Cost: measured on one core with AMX, forward and gradient: 6 ms for 64 rows of 64 tokens in bfloat16, of 4 heads of
    16 (fused 41 ms, in float32 8 ms); laying 2 rows of 1,568 tokens out anew saves 16 ms of 292 in float32.
    """
    if query.device.type == "cpu":
        is_short = key.shape[2] <= SHORT_ROW
        is_kept = is_short and query.dtype == torch.bfloat16 and query.requires_grad and torch.is_grad_enabled()
        if is_kept or not is_short:
            query, key, value = query.contiguous(), key.contiguous(), value.contiguous()
        if is_kept:
            scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
            return F.dropout(scores.softmax(-1, dtype=scores.dtype), dropout) @ value
    return F.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
