"""Compare the gradients of every small model when it is shared out over two processes with those of the whole one.

torchrun --nproc-per-node 2 sharded_models.py [NAME ...]
"""

import copy
import sys

import torch
from torch import nn

from tubelet.models import create_model, list_models
from tubelet.training.ranks import Ranks, join_ranks
from tubelet.training.sharding import Sharding, gather_weights, make_filler
from tubelet.video.spec import InputSpec


def compare(model: nn.Module, ranks: Ranks, *given: torch.Tensor) -> float:
    """Take two sums of gradients over three clips, two here and one there, and scores before each.

    Returns:
        The greatest difference of a gradient, relative to the greatest gradient.
    """
    whole = copy.deepcopy(model)
    names = list(model.state_dict())
    sharding = Sharding(model, make_filler(InputSpec()), torch.device("cpu"), ranks)
    own = slice(2) if ranks.is_main else slice(2, 3)
    for one, clips in ((whole, given), (model, [value[own] for value in given])):
        for _ in range(2):
            with torch.inference_mode():
                one(*clips)
            sharding.release()
            (one(*clips).mean() * len(clips[0])).backward()
    assert list(gather_weights(model)) == names
    gradients = [parameter.grad for parameter in whole.parameters() if parameter.grad is not None]
    largest = max(float(gradient.abs().max()) for gradient in gradients)
    difference = 0.0
    for one, other in zip(whole.parameters(), model.parameters(), strict=True):
        assert (one.grad is None) == (other.grad is None)
        if one.grad is not None:
            difference = max(difference, float((one.grad - other.grad.full_tensor()).abs().max()))
    return difference / largest


def main() -> None:
    torch.set_num_threads(1)
    ranks = join_ranks("cpu")
    generator = torch.Generator().manual_seed(1)
    for name in sys.argv[1:] or list_models("*nano*"):
        torch.manual_seed(0)
        model = create_model(name, num_classes=3).eval()  # in training batch norm would look at the clips here alone
        nn.init.normal_(model.head.weight)
        config = model.config
        clips = torch.randn(3, config.channels, config.frames, config.height, config.width, generator=generator)
        if hasattr(config, "mlp_dim"):
            next(iter(model.parameters())).requires_grad_(False)
        difference = compare(model, ranks, clips)
        if ranks.is_main:
            print(f"{name} {difference:.1e}")
        assert difference < 1e-5, (name, difference)


if __name__ == "__main__":
    main()
