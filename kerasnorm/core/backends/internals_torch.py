"""What torch keeps private and the kernels need, all of it here.

Tried with torch 2.13; `tests/test_internals.py` runs each function.
"""

import torch
from torch.autograd import forward_ad


def is_transformed():
    """Whether `torch.func`, a dispatch mode or forward-mode derivatives watch the operations.

    `torch._C._functorch.peek_interpreter_stack`, `torch._C._len_torch_dispatch_stack` and
    `forward_ad._current_level`: nothing public tells a function that it runs inside of them, where
    kernels that write to buffers are wrong.
    """
    return (
        torch._C._functorch.peek_interpreter_stack() is not None
        or torch._C._len_torch_dispatch_stack() > 0
        or forward_ad._current_level >= 0
    )


def backward_pass():
    """A number of the backward pass that runs, different in each.

    `torch._C._current_graph_task_id`: nothing public tells two passes through one graph apart.
    """
    return torch._C._current_graph_task_id()


def squared_difference(a, b, out):
    """`(a - b)**2`, written to `out` in one pass.

    `torch._C._nn.mse_loss`: `torch.nn.functional.mse_loss` is the same without `out`.
    """
    return torch._C._nn.mse_loss(a, b, reduction=0, out=out)
