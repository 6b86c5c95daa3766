"""Steps on PyTorch, which runs eagerly."""

import keras
import torch

from benchmarks.kept import Kept

NAME = "torch"
MODES = ("eager",)
WAIT_EVERY_STEP = False
COMPILES = False


def versions():
    """Of what computes."""
    numbers = {"torch": torch.__version__}
    if torch.cuda.is_available():
        numbers |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
    return numbers


def threads():
    """How many threads compute."""
    return torch.get_num_threads()


def device():
    """Kind and name."""
    if keras.ops.zeros(()).device.type == "cpu":
        return "cpu", "cpu"
    return "gpu", torch.cuda.get_device_name()


def wait(result):
    """A step on a CPU is over when it returns."""
    del result
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _trainable(layer):
    return [variable.value for variable in layer.trainable_variables]


def train_step(layer, x, dy, mode):
    del mode
    return _train_step(lambda x: layer(x, training=True), _trainable(layer), x, dy)


def _train_step(call, weights, x, dy):
    def step():
        # A leaf of its own: the gradient of a lasting one would wait until the next step, and many
        # contestants together would fill a GPU.
        sources = [x.detach().requires_grad_(), *weights]
        for weight in weights:
            weight.grad = None
        y = call(sources[0])
        y.backward(dy)
        return y, [
            torch.zeros_like(source) if source.grad is None else source.grad for source in sources
        ]

    return step


def native_steps(x, dy):
    """Of `torch.nn`, which has the channels second; in memory they are last, as in x."""
    channels = x.shape[-1]
    x, dy = (tensor.permute(0, 3, 1, 2) for tensor in (x, dy))

    def maker(make):
        def make_step():
            module = make()
            return _train_step(module, list(module.parameters()), x, dy)

        return make_step

    def group_norm():
        # On CUDA it takes weights of the input's dtype alone.
        return torch.nn.GroupNorm(32, channels, device=x.device, dtype=x.dtype)

    return {
        "torch.nn.BatchNorm2d": maker(lambda: torch.nn.BatchNorm2d(channels, device=x.device)),
        "torch.nn.GroupNorm(32)": maker(group_norm),
    }


def inference_step(layer, x, mode):
    del mode

    def step():
        with torch.no_grad():
            return layer(x, training=False)

    return step


def plain_step(kind, x, dy, mode):
    del mode

    def train():
        y = x * _near_one(_total(x))
        return y, x + dy, _total(x), _total(dy)

    steps = {
        "train": train,
        "measured": lambda: x * _near_one(_total(x)),
        "moving": lambda: x * 1.5,
    }
    return steps[kind]


def _total(x):
    # By rows: all at once it is slower on a CPU.
    return x.view(x.shape[0], -1).sum(1).sum(dtype=torch.float32)


def _near_one(total):
    return 1 + 1e-9 * total


def kept(layer, x):
    leaf = x.detach().requires_grad_()
    storages: dict = {}
    alive = []  # the address of what is freed could be used again

    def add(tensor):
        storage = tensor.untyped_storage()
        alive.append(storage)
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(add, lambda tensor: tensor):
        y = layer(leaf, training=True)
    for tensor in _attributes_of_nodes(y.grad_fn):
        add(tensor)
    return Kept.of(storages, leaf.untyped_storage().data_ptr(), leaf.nbytes)


def _attributes_of_nodes(node):
    """Tensors that `torch.autograd.Function`s hold past `save_for_backward`, unseen by hooks."""
    seen, found, queue = set(), [], [node]
    while queue:
        node = queue.pop()
        if node is None or id(node) in seen:
            continue
        seen.add(id(node))
        queue += [parent for parent, _ in node.next_functions]
        for value in getattr(node, "__dict__", {}).values():
            values = value if isinstance(value, list | tuple) else [value]
            found += [v for v in values if isinstance(v, torch.Tensor)]
    return found
