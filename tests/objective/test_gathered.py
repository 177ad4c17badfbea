"""Several processes against one: the loss of the global batch and every parameter's gradient, even and uneven."""

import multiprocessing

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing import assert_close

from thanos import GroupDRO, info_nce_loss, spread_loss, supcon_loss
from thanos.objective.gathered import gather

LOSSES = {
    "spread": lambda views, label: spread_loss(views, label, alpha=0.4, temperature=0.3),
    "supcon, all-view": lambda views, label: supcon_loss(views, label, temperature=0.3, contrast="all-view"),
    "infonce": lambda views, label: info_nce_loss(views, temperature=0.3),
}
IMAGES = 24
UNEVEN = {2: (13, 11), 4: (3, 9, 7, 5)}


def problem():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 4)).double()
    images = torch.randn(2, IMAGES, 6, dtype=torch.float64)
    return model, images, torch.randint(0, 3, (IMAGES,))


def one_of_several(rank, world, sizes, file, results):
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    model, images, label = problem()
    start = sum(sizes[:rank])
    mine = slice(start, start + sizes[rank])
    parallel = DistributedDataParallel(model)
    found = {}
    for name, loss in LOSSES.items():
        parallel.zero_grad()
        projection = parallel(images[:, mine].flatten(0, 1)).unflatten(0, (2, -1))
        value = loss(*gather(projection, label[mine], even=len(set(sizes)) == 1))
        value.backward()
        found[name] = (float(value.detach()), [p.grad.tolist() for p in model.parameters()])
    dro = GroupDRO(torch.tensor([5, 5, 5]), step=0.5)
    parallel.zero_grad()
    losses = parallel(images[0, mine]).pow(2).sum(1).float()
    dro(losses, label[mine]).backward()
    found["groupdro"] = (dro.weights.tolist(), [p.grad.tolist() for p in model.parameters()])
    results.put((rank, found))
    distributed.destroy_process_group()


@pytest.mark.parametrize(("world", "even"), [(2, True), (2, False), (4, False)])
def test_several_processes_equal_one(tmp_path, world, even):
    sizes = (IMAGES // world,) * world if even else UNEVEN[world]
    context = multiprocessing.get_context("spawn" if torch.cuda.is_available() else "fork")
    results = context.Queue()
    arguments = [(rank, world, sizes, tmp_path / "meet", results) for rank in range(world)]
    processes = [context.Process(target=one_of_several, args=each) for each in arguments]
    for process in processes:
        process.start()
    found = dict(results.get(timeout=120) for _ in processes)
    for process in processes:
        process.join(60)
    model, images, label = problem()
    for name, loss in LOSSES.items():
        model.zero_grad()
        value = loss(model(images.flatten(0, 1)).unflatten(0, (2, -1)), label)
        value.backward()
        for rank in range(world):
            theirs, gradients = found[rank][name]
            assert theirs == pytest.approx(value.item(), rel=1e-9)
            for gradient, p in zip(gradients, model.parameters(), strict=True):
                assert_close(torch.tensor(gradient, dtype=torch.float64), p.grad, rtol=1e-6, atol=1e-9)
    model.zero_grad()
    dro = GroupDRO(torch.tensor([5, 5, 5]), step=0.5)
    dro(model(images[0]).pow(2).sum(1).float(), label).backward()
    for rank in range(world):
        weights, gradients = found[rank]["groupdro"]
        assert weights == pytest.approx(dro.weights.tolist(), abs=1e-6)
        for gradient, p in zip(gradients, model.parameters(), strict=True):
            assert_close(torch.tensor(gradient, dtype=torch.float64), p.grad, rtol=1e-4, atol=1e-6)


def test_one_process_gathers_nothing():
    views, label = torch.randn(2, 3, 4), torch.arange(3)
    assert gather(views, label) == (views, label)
