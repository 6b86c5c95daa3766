"""PyTorch beside arithmetic."""

import torch
from keras import ops

from kerasnorm.core.backends.switch import Switch


def _replicas():
    distributed = torch.distributed
    if not (distributed.is_available() and distributed.is_initialized()):
        return 1
    return distributed.get_world_size()


class _ReplicaSum(torch.autograd.Function):
    """An all-reduce whose gradient is the all-reduced gradient."""

    @staticmethod
    def forward(x):
        total = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, gradient):
        return _ReplicaSum.apply(gradient)


def replica_sum(x):
    """Sum over the processes of the default group, differentiable."""
    return x if _replicas() == 1 else _ReplicaSum.apply(x)


def replica_max(x):
    """Maximum over the processes of the default group, a constant to gradients."""
    x = x.detach()
    if _replicas() > 1:
        x = x.clone(memory_format=torch.contiguous_format)
        torch.distributed.all_reduce(x, op=torch.distributed.ReduceOp.MAX)
    return x


def is_tracing():
    """Whether the operations of this moment are being recorded for a compiled function."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()


# Makes contexts in which `torch.compile`d functions run as plain Python.
run_eagerly = Switch(lambda: torch.compiler.set_stance("force_eager"))


def be_deterministic():
    """Those that cannot be had only warn."""
    torch.use_deterministic_algorithms(True, warn_only=True)


def devices():
    """The GPUs, or else the processor."""
    count = torch.cuda.device_count()
    return [f"gpu {torch.cuda.get_device_name(index)}" for index in range(count)] or ["cpu"]


def differentiated(function):
    """A number and its gradient for the first argument, a vector."""

    def value_and_gradient(flat, *others):
        flat = ops.convert_to_tensor(flat).requires_grad_()
        with torch.enable_grad():
            value = function(flat, *others)
            (gradient,) = torch.autograd.grad(value, flat)
        return value.detach().cpu(), gradient.cpu()

    return value_and_gradient


def without_gradients():
    """A context in which nothing is kept for gradients."""
    return torch.no_grad()
