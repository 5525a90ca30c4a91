"""How many examples fit into memory at a time, and a refusal where the matrix itself does not."""

from __future__ import annotations

from torch import Tensor, nn

from gendyn_lite.errors import UserError
from gendyn_lite.measures._memory import available_memory, refuse_if_too_large
from gendyn_lite.measures._per_example_memory import activation_bytes

MOST = 1024  # examples at a time: more is no faster
SMALL = 64 << 20  # bytes that are always taken to be there
LARGEST = 4 << 30  # bytes that activations may take where there is more


def block_size(
    model: nn.Module,
    count: tuple[int, int],
    matrices: int,
    *,
    symmetric: bool,
    x: Tensor,
    asked: int | None,
    limit: int | None,
) -> int:
    """Examples in memory at a time.

    Args:
        model: The network, in eval mode.
        count: Rows and columns of the matrices.
        matrices: How many of them.
        symmetric: Whether rows and columns are the same examples.
        x: Inputs, of which the first is run.
        asked: What the caller wants; None for as many as fit.
        limit: Bytes to stay under instead of what is free.

    Raises:
        UserError: `asked` is no positive whole number, or the matrices would not fit.
    """
    if asked is not None and (isinstance(asked, bool) or not isinstance(asked, int) or asked < 1):
        raise UserError(f"block is {asked!r}, expected a whole number of at least 1, or None")
    n, m = count
    first = next(value for value in model.parameters() if value.requires_grad)
    size = max(first.element_size(), 4)
    needed = (matrices + 2) * n * m * size  # two more for products on the way
    each = activation_bytes(model, x) * (1 if symmetric else 2)
    if needed >= SMALL or limit is not None:
        many = f"{matrices} Gram matrices" if matrices > 1 else "the Gram matrix"
        refuse_if_too_large(
            needed + each,
            f"{many} of {n:,} by {m:,} examples",
            "take fewer examples, or fewer layers at a time (groups=)",
            device=first.device,
            memory_limit=limit,
        )
    wanted = min(max(n, m), MOST) if asked is None else asked
    if asked is not None or (limit is None and wanted * each < SMALL):
        return wanted
    free = available_memory(first.device) if limit is None else limit
    left = LARGEST if free is None else min(LARGEST, max(free - needed, 0) // 2)
    most = max(1, min(wanted, left // each))
    return -(-max(n, m) // -(-max(n, m) // most))  # blocks of nearly one size
