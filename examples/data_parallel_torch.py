"""Train a small ResNet with Mode Normalization in two processes, with PyTorch.

    KERAS_BACKEND=torch torchrun --nproc-per-node 2 --master-addr 127.0.0.1 \\
        examples/data_parallel_torch.py

Each process has a model and a part of the data; `DistributedDataParallel` averages the gradients.
With `synchronized=True` the statistics are those of the batches of all processes; only they are
exchanged. Here they talk over gloo, on GPUs it would be nccl.
"""

import keras
import torch
from bars import shapes_and_labels
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from kerasnorm import models

NORM = {"name": "mode", "modes": 2, "synchronized": True}


def train():
    """Train for two epochs; the first process says how it went."""
    rank, devices = torch.distributed.get_rank(), torch.distributed.get_world_size()
    keras.utils.set_random_seed(0)
    model = models.ResNet8((8, 8, 3), 2, norm=NORM, width=8)
    replica = DistributedDataParallel(model)
    weights = [weight for weight in replica.parameters() if weight.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=0.001)
    loss_of = keras.losses.SparseCategoricalCrossentropy()

    data = TensorDataset(*map(torch.from_numpy, shapes_and_labels()))
    sampler = DistributedSampler(data)
    losses = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        total = 0.0
        loader = DataLoader(data, batch_size=32 // devices, sampler=sampler)
        for x, y in loader:
            loss = loss_of(y, replica(x, training=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) / len(loader)
        losses.append(total)
    if rank == 0:
        print(f"{devices} devices, loss {losses[0]:.3f} -> {losses[-1]:.3f}", flush=True)


torch.distributed.init_process_group("gloo")
try:
    train()
    # No process leaves while another is still talking to it.
    torch.distributed.barrier()
finally:
    torch.distributed.destroy_process_group()
