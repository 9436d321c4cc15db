"""On a CUDA device: parity with float64 on the CPU, gradients of both orders, and speed against the copy bandwidth.

`pytest -m gpu -rP tests/test_cuda_gpu.py` prints the speeds.
"""

from collections.abc import Callable
from math import sqrt

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from cuda_ops import bias_act, launch, synthesis_epilogue, upfirdn2d
from cuda_ops.reference import upfirdn2d_reference

AVAILABLE, REASON = launch.available()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not AVAILABLE, reason=f"needs a CUDA device: {REASON}")]

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}
ACTIVATIONS = ["linear", "relu", "lrelu", "tanh", "sigmoid", "elu", "selu", "softplus", "swish"]
LAYOUTS = [torch.contiguous_format, torch.channels_last]


def images(shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    return x.to(device="cuda", dtype=dtype).contiguous(memory_format=layout)


def taps(n: int) -> Tensor:
    f = torch.linspace(1, 2, n, dtype=torch.float64)
    return f / f.sum()


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(
    ("n", "two_d", "up", "down"),
    [(n, two_d, *f) for n, two_d in [(4, False), (4, True), (12, False)] for f in [(1, 1), (2, 1), (1, 2), (3, 2)]],
)
@pytest.mark.parametrize("shape", [(2, 3, 65, 70), (1, 40, 9, 8)])
def test_upfirdn2d_and_its_gradients(shape, n, two_d, up, down, dtype, layout):
    f = torch.outer(taps(n), taps(n).flip(0)) if two_d else taps(n)
    x = images(shape, dtype, layout)

    def results(x: Tensor, f: Tensor) -> list[Tensor]:
        x = x.detach().requires_grad_()
        y = upfirdn2d(x, f, up=up, down=down, padding=[n - 1, n, n, -1], gain=up**2)
        (dx,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        (ddx,) = torch.autograd.grad(dx.square().sum(), x)
        return [y, dx, ddx]

    for found, expected in zip(results(x, f.cuda()), results(x.cpu().double(), f), strict=True):
        scale = expected.abs().max().item()
        torch.testing.assert_close(found.cpu().double() / scale, expected / scale, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("act", ACTIVATIONS)
def test_bias_act_and_its_gradients(act, dtype, layout):
    x = images((2, 24, 13, 10), dtype, layout)
    b = torch.linspace(-1, 1, 24, dtype=torch.promote_types(dtype, torch.float32))

    def results(x: Tensor, b: Tensor) -> list[Tensor]:
        x, b = x.detach().requires_grad_(), b.detach().requires_grad_()
        y = bias_act(x, b, act=act)
        first = torch.autograd.grad(y.square().sum(), [x, b], create_graph=True)
        second = torch.autograd.grad(first[0].square().sum(), [x, b])
        return [y, *first, *second]

    for found, expected in zip(results(x, b.cuda()), results(x.cpu().double(), b.double()), strict=True):
        scale = expected.abs().max().item() or 1
        torch.testing.assert_close(found.cpu().double() / scale, expected / scale, rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
def test_synthesis_epilogue(dtype, layout):
    x, n = images((3, 16, 8, 12), dtype, layout), images((3, 1, 8, 12), torch.float32, torch.contiguous_format)
    d, b, strength = torch.rand(3, 16).cuda(), torch.rand(16).cuda(), torch.tensor(0.3).cuda()
    u = x.double() * d.double()[:, :, None, None] + n.double() * strength.double() + b.double()[:, None, None]
    expected = (F.leaky_relu(u, 0.2) * sqrt(2)).clamp(-2, 2)
    found = launch.synthesis_epilogue(x, d, n, strength, b, sqrt(2), 2)
    torch.testing.assert_close(found.double(), expected, rtol=0, atol=4 * TOLERANCE[dtype])


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_gradients_of_the_epilogue(layout):
    """Of both orders, in every tensor, against float64 on the CPU."""
    x = images((3, 16, 8, 12), torch.float32, layout)
    rng = torch.Generator().manual_seed(0)
    shapes: list[tuple[int, ...]] = [(3, 16), (3, 1, 8, 12), (), (16,)]
    given = [x, *(torch.randn(shape, generator=rng).cuda() for shape in shapes)]

    def results(arguments: list[Tensor]) -> list[Tensor]:
        leaves = [t.detach().requires_grad_() for t in arguments]
        image, demodulation, noise, strength, bias = leaves
        y = synthesis_epilogue(image, demodulation, noise, strength, bias, gain=1.5, clamp=2)
        first = torch.autograd.grad(y.square().sum(), leaves, create_graph=True)
        return [*first, *torch.autograd.grad(first[0].square().sum(), leaves)]

    for found, expected in zip(results(given), results([t.cpu().double() for t in given]), strict=True):
        scale = expected.abs().max().item() or 1
        torch.testing.assert_close(found.cpu().double() / scale, expected / scale, rtol=0, atol=1e-4)


def test_work_goes_to_the_current_stream():
    x = torch.zeros(2**24, device="cuda")
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(20):
            x = launch.bias_act(x + 1, None, 0, "linear", 0, 1, None)
    torch.cuda.current_stream().wait_stream(stream)
    assert x.eq(20).all()


def seconds(work: Callable[[], object]) -> float:
    """The least time of a few repetitions, on the device's own clock."""
    for _ in range(3):
        work()
    times = []
    for _ in range(20):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        work()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1000)
    return min(times)


def zero_insert_filter(x: Tensor, f: Tensor, up: int, down: int, padding: list[int]) -> Tensor:
    """upfirdn2d by zeros, padding and a depthwise convolution: what there is without a kernel."""
    b, c, h, w = x.shape
    z = F.pad(x.reshape(b, c, h, 1, w, 1), [0, up - 1, 0, 0, 0, up - 1]).reshape(b, c, h * up, w * up)
    kernel = torch.outer(f, f).flip(0, 1).to(x.dtype).expand(c, 1, -1, -1)
    return F.conv2d(F.pad(z, padding), kernel, stride=down, groups=c)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_speed(dtype, layout):
    x = images((8, 128, 256, 256), dtype, layout)
    size = x.numel() * x.element_size()
    copied = 2 * size / seconds(lambda: x.clone())
    name = f"{torch.cuda.get_device_name()}, {str(dtype)[6:]}, {str(layout)[6:]}"
    print(f"\n{name}: copy {copied / 1e9:.0f} GB/s")
    ratios = []

    def compare(kind: str, moved: int, ours: Callable[[], object], plain: Callable[[], object]) -> None:
        one, other = seconds(ours), seconds(plain)
        print(
            f"{kind:24} {moved / one / 1e9:6.0f} GB/s, {moved / one / copied:4.0%} of the copy, "
            f"{other / one:5.1f} times plain torch"
        )
        ratios.append(other / one)

    def compare_filter(kind: str, x: Tensor, n: int, up: int, down: int, separable: bool = True) -> None:
        f = taps(n).float().cuda()
        given = (f, f) if separable else torch.outer(f, f)
        margins = ((n + up - 1) // 2, (n - up) // 2) * 2 if down == 1 else ((n - down + 1) // 2, (n - down) // 2) * 2
        compare(
            f"upfirdn2d {n} taps {kind}",
            x.nbytes + x.nbytes * up**2 // down**2,
            lambda: launch.upfirdn2d(x, given, (up, up), (down, down), margins),
            lambda: zero_insert_filter(x, f, up, down, list(margins)),
        )
        reference = seconds(lambda: upfirdn2d_reference(x, f, [up] * 2, [down] * 2, list(margins), False, 1.0))
        print(f"{'':24} the reference kernel takes {reference * 1e3:.2f} ms")

    half = x[:, :, ::2, ::2].contiguous(memory_format=layout)
    colours = x[:, :3].contiguous(memory_format=layout)
    compare_filter("filter", x, 4, 1, 1)
    compare_filter("filter, not separable", x, 4, 1, 1, separable=False)
    compare_filter("down", x, 4, 1, 2)
    compare_filter("up", half, 4, 2, 1)
    compare_filter("up, colours", colours, 12, 2, 1)
    compare_filter("down, colours", colours, 12, 1, 2)
    b = torch.ones(128, device="cuda")
    bias = b.to(dtype)[:, None, None]
    compare(
        "bias_act lrelu",
        2 * size,
        lambda: launch.bias_act(x, b, 1, "lrelu", 0.2, sqrt(2), 256),
        lambda: (F.leaky_relu(x + bias, 0.2) * sqrt(2)).clamp(-256, 256),
    )
    y, dy = launch.bias_act(x, b, 1, "lrelu", 0.2, sqrt(2), 256), torch.ones_like(x)
    compare(
        "bias_act_grad lrelu",
        3 * size,
        lambda: launch.bias_act_grad(dy, y, None, 1, "lrelu", 0.2, sqrt(2), 256),
        lambda: dy * torch.where(y > 0, sqrt(2), 0.2 * sqrt(2)).to(dtype) * (y.abs() < 256),
    )
    d, noise, strength = torch.ones(8, 128).cuda(), torch.randn(8, 1, 256, 256).cuda(), torch.ones([]).cuda()
    scale, grain = d.to(dtype)[:, :, None, None], noise.to(dtype)
    compare(
        "synthesis_epilogue",
        2 * size,
        lambda: launch.synthesis_epilogue(x, d, noise, strength, b, sqrt(2), None),
        lambda: F.leaky_relu(x * scale + grain + bias, 0.2) * sqrt(2),
    )
    assert min(ratios) > 1  # slower than plain torch would be of no use


def test_metrics_are_those_of_the_cpu():
    from generator.networks import Generator, GeneratorConfig
    from training.metrics import evaluate_generator

    config = GeneratorConfig(resolution=32, z_dim=8, w_dim=8, mapping_layers=2, channel_base=256, channel_max=16)
    torch.manual_seed(0)
    G = Generator(config).eval()
    real = torch.randint(256, (24, 32, 32, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8).numpy()
    metrics = ["fd_vgg16", "precision", "ppl", "swd"]
    expected = evaluate_generator(G, real, metrics, 24, 0)
    assert evaluate_generator(G.cuda(), real, metrics, 24, 0) == pytest.approx(expected, rel=0.02, abs=0.05)
