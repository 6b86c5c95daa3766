"""The full-size steps on torch: `moments`, `affine`, and the small matrix product `dot`.

Two linked `torch.autograd.Function`s keep only x and arrays of shape (N, C) for the backward pass,
and read x and dy twice there: `_Affine` leaves dy and its scale in their link, `_Moments` then
writes

    dx = scale*dy + 2/L*dvariance*(x - mean) + dmean/L

in one go, and rounds once: parts cast to half precision one by one would not cancel. On a CPU every
step works through chunks that stay in cache; elsewhere the whole tensor is one chunk. Compilers,
exporters, `torch.func`, forward-mode derivatives, dispatch modes, the meta device and tensor
subclasses get plain differentiable operations instead, and so does a backward pass that is itself
differentiated.
"""

import functools

import torch

from kerasnorm.core.backends import internals_torch
from kerasnorm.core.dtypes import output_limit, statistics_dtype

# Elements per thread in a chunk: 1 MB of float32, what a core's own cache holds. Half as much was
# up to 13 % slower, twice as much the same within the noise.
CHUNK = 2**18
# A tensor is "near" zero when |mean| <= 8 standard deviations in every channel. Then rounding in
# x*scale + shift and in a mean summed directly stays small against the channel's own spread, and
# one pass over each chunk is saved.
NEAR = 64.0


def moments(x, channel_axis, variance=True):
    """Mean and biased variance of each channel of each example, over its positions.

    Args:
        x: (N, L, C) if `channel_axis` is 2, (N, C, L) if it is 1.
        channel_axis: 1 or 2.
        variance: False leaves the variance out.

    Returns:
        `(handle, mean, variance)`: what `affine` takes in place of x, and two (N, C) tensors in
        float32 (float64 for float64 input); `variance` is None if it was not asked for. Empty
        examples have mean 0 and variance 0.
    """
    if _needs_plain(x):
        # In the statistics' dtype, in which both parts of the gradient are then added.
        x = x.to(_wide(x))
        return (x, *_plain_moments(x, channel_axis, variance))
    handle = _Handle(x)
    handle.alias, mean, *rest = _Moments.apply(x, channel_axis, variance, handle.link)
    return handle, mean, (rest[0] if variance else None)


def affine(handle, mean, scale, shift, channel_axis, dtype):
    """`(x - mean)*scale + shift`, cast to `dtype`; float16 saturates instead of becoming inf.

    Args:
        handle: what `moments` returned, or any x that never went through it.
        mean, scale, shift: (N, C) or (1, C), in the dtype of the statistics.
        channel_axis: 1 or 2, as for `moments`.
        dtype: name of the result's dtype.
    """
    dtype = getattr(torch, dtype)
    x, link = (handle.x, handle.link) if isinstance(handle, _Handle) else (handle, None)
    if _needs_plain(x, mean, scale, shift):
        return _plain_affine(x, mean, scale, shift, channel_axis, dtype)
    near = link is not None and link.near
    if link is not None and not link.used:
        link.used, x = True, handle.alias
    else:
        link = None
    return _Affine.apply(x, mean, scale, shift, channel_axis, dtype, near, link)


def dot(a, b):
    """Matrix product of small matrices at full float32 precision, under autocast too."""
    if _exact_matmul(a) or a.device.type == "mps":
        return torch.matmul(a, b)
    # Neither TF32, bfloat16 passes nor autocast touch float64.
    return torch.matmul(a.double(), b.double()).to(torch.promote_types(a.dtype, b.dtype))


def _exact_matmul(a):
    if torch.compiler.is_compiling() or torch.is_autocast_enabled(a.device.type):
        return False
    try:
        return torch.get_float32_matmul_precision() == "highest"
    except RuntimeError:  # set for one library by itself, which this question does not allow
        return False


class _Link:
    """What one `_Moments` and the one `_Affine` on its output know of each other."""

    __slots__ = ("left", "near", "used")

    def __init__(self):
        self.near, self.used = False, False
        self.left = None

    def leave(self, dx=None, dy=None, scale=None):
        """What `_Affine` leaves for `_Moments`: dy and its scale, or their product dx.

        dx is where the backward pass is differentiated.
        """
        self.left = internals_torch.backward_pass(), (dx, dy, scale)

    def take(self):
        """What was left in this backward pass, once: one for gamma alone takes nothing."""
        left, self.left = self.left, None
        if left is None or left[0] != internals_torch.backward_pass():
            return None, None, None
        return left[1]


class _Handle:
    """x, and the alias of it through which the first `affine` sends its gradient to `_Moments`.

    Further calls of `affine` read x itself, so each sends home a gradient of its own.
    """

    __slots__ = ("alias", "link", "x")

    def __init__(self, x):
        self.x, self.alias, self.link = x, x, _Link()


class _Moments(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, channel_axis, variance, link):
        layout = _Layout(x, channel_axis)
        mean, var, link.near = _compute_moments(layout, layout.blocks(layout.arrange(x)), variance)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, mean)
        ctx.layout, ctx.near, ctx.link = layout, link.near, link
        return (x, mean, var) if variance else (x, mean)

    @staticmethod
    def backward(ctx, dalias, dmean, dvar=None):
        x, mean = ctx.saved_tensors
        layout, (dx, dy, scale) = ctx.layout, ctx.link.take()
        if torch.is_grad_enabled():
            dx = _plain_moments_gradient(x, dx, dmean, dvar, layout.channel_axis)
            return dx if dalias is None else dx + dalias, None, None, None
        zero = torch.zeros((), dtype=mean.dtype, device=mean.device).expand(1, layout.channels)
        slope = zero if dvar is None else dvar * (2.0 / layout.length)
        offset = zero if dmean is None else dmean * (1.0 / layout.length)
        dx = _moments_gradient(layout, x, dy, mean, scale, slope, offset, ctx.near)
        # Only a backward pass that was differentiated sends anything to the alias itself.
        return dx if dalias is None else dx + dalias, None, None, None


class _Affine(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, mean, scale, shift, channel_axis, dtype, near, link):
        layout = _Layout(x, channel_axis)
        ctx.save_for_backward(x, mean, scale)
        ctx.layout, ctx.near, ctx.link, ctx.rows = layout, near, link, shift.shape[0]
        return _compute_affine(layout, x, mean, scale, shift, dtype, near)

    @staticmethod
    def backward(ctx, dy):
        x, mean, scale = ctx.saved_tensors
        layout, rows = ctx.layout, (mean.shape[0], scale.shape[0], ctx.rows)
        needs = ctx.needs_input_grad[:4]
        if torch.is_grad_enabled():
            dx, *grads = _plain_affine_gradient(x, mean, scale, dy, layout.channel_axis, rows)
            if ctx.link is not None:
                ctx.link.leave(dx=dx)
                dx = None
            grads = [dx if dx is None else dx.to(x.dtype), *grads]
            grads = [g if needed else None for g, needed in zip(grads, needs, strict=True)]
            return (*grads, None, None, None, None)
        dx = dmean = dscale = dshift = None
        if needs[0] and ctx.link is not None:
            ctx.link.leave(dy=dy, scale=scale.detach())
        elif needs[0]:
            dx = (dy * scale.unsqueeze(3 - layout.channel_axis)).to(x.dtype)
        if any(needs[1:]):
            total, product = _affine_sums(layout, x, dy, mean, ctx.near)
            dmean, dscale, dshift = (
                g.sum(0, keepdim=True) if g.shape[0] != n else g
                for g, n in zip((-total * scale, product, total), rows, strict=True)
            )
        return dx, dmean, dscale, dshift, None, None, None, None


class _Layout:
    """How x lies in memory, and the chunks it is worked through in.

    The kernels see blocks (n, l, c), of which every l positions share a coefficient: x itself if
    channels lie next to each other, (N*C, L, 1) if positions do (also behind a permuted view, as
    convolutions return it). A block larger than a thread's share of a chunk is divided: into
    `groups` of channels if there is but one (ConvNorm's views), else into `parts` of its positions.
    Threads then work on blocks of their own, in each step on the same ones: one block divided among
    threads made a step at (16, 3136, 128) 1.4 times longer.
    """

    def __init__(self, x, channel_axis):
        last = x if channel_axis == 2 else x.transpose(1, 2)
        self.channel_axis = channel_axis
        self.examples, self.length, self.channels = last.shape
        self.chunked = _in_chunks(x)
        self.device = x.device
        self.stats_dtype = _wide(x)
        self.by_rows = self.channels == 1 or (
            not last.is_contiguous() and last.stride(1) < last.stride(2)
        )
        n, c = self.examples, self.channels
        if self.by_rows:
            n, c = n * c, 1
        self.shape = (n, self.length, c)
        self.groups, self.parts, self.step = 1, 1, n
        if self.chunked:
            plan = _plan(*self.shape, CHUNK, torch.get_num_threads())
            self.groups, self.parts, self.step = plan

    def arrange(self, t):
        """Give t in the order of memory, as (N, L, C) or (N*C, L, 1); copy only if it must."""
        t = t if self.channel_axis == 2 else t.transpose(1, 2)
        if self.by_rows:
            t = t.transpose(1, 2)
        return t.contiguous().view(self.shape)

    def restore(self, t):
        """The inverse of `arrange`."""
        if self.by_rows:
            t = t.view(self.examples, self.channels, self.length)
            return t if self.channel_axis == 1 else t.transpose(1, 2)
        return t if self.channel_axis == 2 else t.transpose(1, 2)

    def blocks(self, arranged):
        n, length, c = self.shape
        if self.groups > 1:
            return arranged.view(length, self.groups, c // self.groups).transpose(0, 1)
        return arranged.view(n * self.parts, length // self.parts, c)

    def spread(self, coefficient):
        """(N, C) or (1, C) -> the coefficients of each block, (n, 1, c) or (1, 1, c)."""
        if self.by_rows:
            coefficient = coefficient.expand(self.examples, self.channels).reshape(-1, 1)
        if self.groups > 1:
            coefficient = coefficient.reshape(self.groups, -1)
        if self.parts > 1 and coefficient.shape[0] > 1:
            coefficient = coefficient.repeat_interleave(self.parts, 0)
        return coefficient.unsqueeze(1)

    def gather(self, sums):
        """Sums over blocks -> (N, C)."""
        if self.parts > 1:
            sums = sums.view(-1, self.parts, sums.shape[2]).sum(1)
        return sums.view(self.examples, self.channels)

    def cut(self, *tensors):
        """The chunks of each tensor; what has one row for all blocks is repeated."""
        count = -(-tensors[0].shape[0] // self.step)
        pieces = ((t,) * count if t.shape[0] == 1 else t.split(self.step) for t in tensors)
        return list(zip(*pieces, strict=True))

    def cut_back(self, *tensors):
        """The chunks, last first: a second pass finds in cache what the first one left there.

        Measured: up to 10 % of a train step.
        """
        return self.cut(*tensors)[::-1]

    def empty(self, dtype):
        return torch.empty(self.shape, dtype=dtype, device=self.device)

    def statistic(self):
        n, _, c = self.shape
        shape = (n * self.groups * self.parts, 1, c // self.groups)
        return torch.empty(shape, dtype=self.stats_dtype, device=self.device)

    def scratch(self):
        """A function giving a chunk-shaped float32 (float64) buffer, the same memory each time."""
        n, length, c = self.shape
        blocks = min(self.step, n * self.groups * self.parts)
        size = blocks * (length // self.parts) * (c // self.groups)
        buffer = torch.empty(size, dtype=self.stats_dtype, device=self.device)
        return lambda like: buffer[: like.numel()].view(like.shape)

    def widen(self, dtype):
        """A function that upcasts a chunk; devices other than a CPU convert as they read."""
        if dtype == self.stats_dtype or not self.chunked:
            return lambda chunk: chunk
        scratch = self.scratch()
        return lambda chunk: scratch(chunk).copy_(chunk)

    def multiply_add(self, offset, x, factor, out):
        """Return offset + x*factor; on rows, addcmul takes 3 times as long as two steps."""
        if self.by_rows and self.chunked:
            return torch.mul(x, factor, out=out).add_(offset)
        return torch.addcmul(offset, x, factor, out=out)


def _in_chunks(x):
    """Whether x is worked through in chunks, for the caches of a CPU."""
    return x.device.type == "cpu"


@functools.lru_cache(maxsize=256)
def _plan(n, length, channels, share, threads):
    """(groups, parts, step): how to divide blocks (n, length, channels), and how many make a chunk.

    A thread's part of a chunk is about `share` elements.
    """
    size = length * channels
    groups = parts = 1
    if size > share:
        least = -(-size // share)
        if n == 1:
            # Rows of at least 512 channels keep the strided access cheap.
            groups = _divisor(channels, least, channels // 512)
        if groups == 1:
            parts = _divisor(length, least, length // 16)
    size //= groups * parts
    return groups, parts, threads * max(1, share // size)


def _divisor(number, least, most):
    """The smallest divisor of `number` from `least` to `most`, or 1."""
    return next((d for d in range(least, min(most, least + 4096) + 1) if number % d == 0), 1)


def _compute_moments(layout, x, variance):
    """(mean, variance, near), each statistic (N, C)."""
    if not layout.chunked:
        wide = x.to(layout.stats_dtype)
        if variance:
            var, mean = torch.var_mean(wide, 1, correction=0)
        else:
            var, mean = None, wide.mean(1)
        shape = (layout.examples, layout.channels)
        return mean.view(shape), None if var is None else var.view(shape), False
    length = x.shape[1]
    mean, var = layout.statistic(), layout.statistic()
    scratch, widen = layout.scratch(), layout.widen(x.dtype)
    for xs, m, v in layout.cut(x, mean, var):
        xs = widen(xs)
        torch.sum(xs, 1, keepdim=True, out=m).div_(length)
        if variance:
            torch.sum(_squared_difference(xs, m, scratch(xs)), 1, keepdim=True, out=v).div_(length)
    if variance:
        pooled, pooled_var = _pool(layout, mean, var)
        if not (pooled * pooled > NEAR * pooled_var).any():
            return pooled, pooled_var, True
    # The sum of large equal numbers is rounded; the mean of the deviations from it puts that right,
    # exactly so for a constant.
    for xs, m, v in layout.cut(x, mean, var):
        deviations = torch.sub(widen(xs), m, out=scratch(xs))
        better = deviations.sum(1, keepdim=True).div_(length).add_(m)
        if variance:
            squares = _squared_difference(deviations, better - m, deviations)
            torch.sum(squares, 1, keepdim=True, out=v).div_(length)
        m.copy_(better)
    return *_pool(layout, mean, var if variance else None), False


def _pool(layout, mean, var):
    """The moments of examples from those of their parts; equal means pool to exactly that mean."""
    shape = (layout.examples, layout.channels)
    if layout.parts > 1:
        mean = mean.view(-1, layout.parts, mean.shape[2])
        anchor = mean[:, :1]
        pooled = anchor + (mean - anchor).mean(1, keepdim=True)
        if var is not None:
            var = var.view(mean.shape).mean(1) + (mean - pooled).square().mean(1)
        mean = pooled
    return mean.view(shape), None if var is None else var.view(shape)


def _squared_difference(a, b, out):
    # One pass over the chunk; a subtraction and a square would be two.
    return internals_torch.squared_difference(a, b, out)


def _compute_affine(layout, x, mean, scale, shift, dtype, near):
    y = layout.empty(dtype)
    if near:
        shift = shift - mean * scale
    scratch, widen = layout.scratch(), layout.widen(x.dtype)
    direct = dtype == layout.stats_dtype
    full = [layout.blocks(t) for t in (layout.arrange(x), y)]
    coefficients = [layout.spread(c) for c in (mean, scale, shift)]
    for xs, ys, m, a, b in layout.cut_back(*full, *coefficients):
        out = ys if direct else scratch(ys)
        xs = widen(xs)
        if not near:
            xs = torch.sub(xs, m, out=out)
        layout.multiply_add(b, xs, a, out)
        if not direct:
            ys.copy_(_saturate(out, dtype))
    return layout.restore(y)


def _saturate(y, dtype):
    limit = output_limit(dtype)
    return y if limit is None else y.clamp(-limit, limit)


def _wide(x):
    """The dtype of statistics of x."""
    return getattr(torch, statistics_dtype(x.dtype))


def _affine_sums(layout, x, dy, mean, near):
    """(sum of dy, sum of dy*(x - mean)) over positions, each (N, C)."""
    total, product = layout.statistic(), layout.statistic()
    scratch, widen, widen_dy = layout.scratch(), layout.widen(x.dtype), layout.widen(dy.dtype)
    full = [layout.blocks(layout.arrange(t)) for t in (x, dy)]
    for xs, dys, m, s, p in layout.cut(*full, layout.spread(mean), total, product):
        xs, dys = widen(xs), widen_dy(dys)
        if not near:
            xs = torch.sub(xs, m, out=scratch(xs))
        products = torch.mul(xs, dys, out=scratch(xs))
        torch.sum(products, 1, keepdim=True, out=p)
        torch.sum(dys, 1, keepdim=True, dtype=s.dtype, out=s)
    total, product = layout.gather(total), layout.gather(product)
    return total, product - mean * total if near else product


def _moments_gradient(layout, x, dy, mean, scale, slope, offset, near):
    """scale*dy + slope*(x - mean) + offset; without the first term if dy is None."""
    dx = layout.empty(x.dtype)
    if near:
        offset = offset - slope * mean
    has_dy = dy is not None
    dy, scale = (dy, scale) if has_dy else (x, slope)
    scratch, widen, widen_dy = layout.scratch(), layout.widen(x.dtype), layout.widen(dy.dtype)
    direct = x.dtype == layout.stats_dtype
    full = [layout.blocks(t) for t in (layout.arrange(x), dx, layout.arrange(dy))]
    coefficients = [layout.spread(c) for c in (mean, scale, slope, offset)]
    for xs, dxs, dys, m, a, p, q in layout.cut_back(*full, *coefficients):
        out = dxs if direct else scratch(dxs)
        xs = widen(xs)
        if not near:
            xs = torch.sub(xs, m, out=out)
        layout.multiply_add(q, xs, p, out)
        if has_dy:
            torch.addcmul(out, widen_dy(dys), a, out=out)
        if not direct:
            dxs.copy_(out)
    return layout.restore(dx)


def _needs_plain(*tensors):
    """Whether something watches or transforms the operations, or there is nothing to work on."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or internals_torch.is_transformed()
        or tensors[0].numel() == 0
        or any(
            type(t) not in (torch.Tensor, torch.nn.Parameter) or t.device.type == "meta"
            for t in tensors
        )
    )


def _plain_moments(x, channel_axis, variance):
    dim = 3 - channel_axis
    length = _at_least_one(x.shape[dim])
    rough = (x.sum(dim, keepdim=True) / length).detach()
    mean = rough + (x - rough).sum(dim, keepdim=True) / length
    var = ((x - mean).square().sum(dim) / length) if variance else None
    return mean.squeeze(dim), var


def _at_least_one(length):
    if torch.is_tensor(length):  # while torch.jit traces
        return length.clamp(min=1)
    # Dynamo traces `max`; that of PyTorch 2.11 does not trace `sym_max` of a number.
    return max(length, 1) if isinstance(length, int) else torch.sym_max(length, 1)


def _plain_affine(x, mean, scale, shift, channel_axis, dtype):
    dim = 3 - channel_axis
    mean, scale, shift = (c.unsqueeze(dim) for c in (mean, scale, shift))
    return _saturate((x.to(scale.dtype) - mean) * scale + shift, dtype).to(dtype)


def _plain_moments_gradient(x, dx, dmean, dvar, channel_axis):
    dim = 3 - channel_axis
    length = x.shape[dim]
    if dx is None:
        dx = torch.zeros((), dtype=_wide(x), device=x.device)
        dx = dx.expand(x.shape)
    if dmean is not None:
        dx = dx + (dmean / length).unsqueeze(dim)
    if dvar is not None:
        x_wide = x.to(dx.dtype)
        mean, _ = _plain_moments(x_wide, channel_axis, False)
        dx = dx + (dvar * (2.0 / length)).unsqueeze(dim) * (x_wide - mean.unsqueeze(dim))
    return dx.to(x.dtype)


def _plain_affine_gradient(x, mean, scale, dy, channel_axis, rows):
    dim = 3 - channel_axis
    dtype = scale.dtype
    dy = dy.to(dtype)
    total = dy.sum(dim)
    product = (dy * (x.to(dtype) - mean.unsqueeze(dim))).sum(dim)
    dx = dy * scale.unsqueeze(dim)
    small = (
        g.sum(0, keepdim=True) if g.shape[0] != n else g
        for g, n in zip((-total * scale, product, total), rows, strict=True)
    )
    return dx, *small
