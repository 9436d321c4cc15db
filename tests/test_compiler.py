"""NVRTC compiles every kernel for every architecture, without a GPU; the cache; what errors say."""

import re
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import torch

from cuda_ops import compiler, driver, launch
from cuda_ops.activations import ACTIVATIONS, PIECEWISE_LINEAR
from cuda_ops.driver import Launch
from cuda_ops.tiles import SHARED_BYTES

ARCHITECTURES = ["sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120"]
MISSING = compiler.missing()
needs_nvrtc = pytest.mark.skipif(MISSING is not None, reason=f"compiles nothing: {MISSING}")
DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SMALL = ("bias_act", (("ACT", 2), ("DTYPE", 0), ("INDEX64", 0), ("ORDER", 0), ("PACK", 4), ("SAVED_X", 0)))


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path) -> Path:
    monkeypatch.setenv("LATENTPRINT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def variants() -> list[tuple[str, Callable[[torch.dtype], object]]]:
    """What the networks launch: FIR filters of 4 and 12 taps on feature maps and colours, bias_act, the epilogue."""
    ones, line = torch.ones(4), torch.ones(12)

    def images(dtype: torch.dtype, channels: int, size: int, last: bool) -> torch.Tensor:
        layout = torch.channels_last if last else torch.contiguous_format
        return torch.empty((1, channels, size, size), dtype=dtype).contiguous(memory_format=layout)

    def fir(channels, size, last, taps, up, down) -> Callable[[torch.dtype], object]:
        return lambda dtype: launch.upfirdn2d(images(dtype, channels, size, last), taps, up, down, (2, 2, 2, 2))

    def act(name: str, order: int, clamp: float | None = 1) -> Callable[[torch.dtype], object]:
        def run(dtype: torch.dtype) -> object:
            x = images(dtype, 8, 8, False)
            if order == 0:
                return launch.bias_act(x, torch.ones(8), 1, name, 0.2, 1, clamp)
            if order == 1:
                return launch.bias_act_grad(x, x, torch.ones(8), 1, name, 0.2, 1, clamp)
            return launch.bias_act_grad_grad(x, x, x, torch.ones(8), 1, name, 0.2, 1, clamp)

        return run

    def epilogue(last: bool) -> Callable[[torch.dtype], object]:
        d = n = s = b = torch.ones(8)
        return lambda dtype: launch.synthesis_epilogue(images(dtype, 8, 8, last), d, n, s, b, 1, 1)

    one, two = (1, 1), (2, 2)
    named = [
        ("4 taps", fir(32, 64, False, (ones, ones), one, one)),
        ("4 taps, channels last", fir(32, 64, True, (ones, ones), one, one)),
        ("4 taps up", fir(3, 64, False, (ones, ones), two, one)),
        ("4 taps up, channels last", fir(3, 64, True, (ones, ones), two, one)),
        ("4 taps down", fir(32, 64, False, (ones, ones), one, two)),
        ("4 taps down, channels last", fir(32, 64, True, (ones, ones), one, two)),
        ("4 taps, 8 x 8", fir(32, 8, False, (ones, ones), one, one)),
        ("4x4 taps", fir(32, 64, False, torch.ones(4, 4), one, one)),
        ("4x4 taps up, channels last", fir(32, 64, True, torch.ones(4, 4), two, one)),
        ("4x4 taps down", fir(32, 64, False, torch.ones(4, 4), one, two)),
        ("12 taps up", fir(3, 64, False, (line, line), two, one)),
        ("12 taps down, channels last", fir(3, 64, True, (line, line), one, two)),
        ("general", fir(3, 64, False, torch.ones(5, 5), (3, 3), two)),
        ("general, channels last", fir(3, 64, True, torch.ones(5, 5), (3, 3), two)),
        ("epilogue", epilogue(False)),
        ("epilogue, channels last", epilogue(True)),
        *[
            (f"{name} {order}", act(name, order))
            for name in ACTIVATIONS
            for order in range(3)
            if order < 2 or name not in PIECEWISE_LINEAR
        ],
    ]
    return named


def launches_of(run: Callable[[torch.dtype], object], dtype: torch.dtype, limit: int) -> list[Launch]:
    launches: list[Launch] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(driver, "run", launches.append)
        patch.setattr(launch, "INDEX_LIMIT", limit)
        run(dtype)
    return launches


def figures(log: str) -> dict[str, int]:
    """Registers a thread, bytes of shared memory a block, bytes spilled, as ptxas -v says them."""
    registers = re.search(r"Used (\d+) registers", log)
    assert registers, log
    shared = re.search(r"(\d+) bytes smem", log)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", log)
    assert len(spills) == 2, log
    return {
        "registers": int(registers[1]),
        "shared": int(shared[1]) if shared else 0,
        "spills": sum(int(n) for n in spills),
    }


@needs_nvrtc
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_kernel_compiles_without_spills(arch):
    if arch not in compiler.architectures():
        pytest.skip(f"NVRTC {compiler.version()} does not compile for {arch}")
    print(f"\n{arch:8}{'variant':32}{'dtype':10}{'index':>6}{'registers':>10}{'shared':>8}{'spills':>7}")
    for i, (name, run) in enumerate(variants()):
        # every variant in one dtype and index width per architecture, another one in the next
        turn = i + ARCHITECTURES.index(arch)
        dtype, limit = DTYPES[turn % 4], 0 if turn // 4 % 2 else 2**30
        (work,) = launches_of(run, dtype, limit)
        cubin = compiler.compile_kernel(work.kernel, tuple(sorted(work.defines.items())), arch)
        found = figures(cubin.log)
        width, kind = 64 if work.defines["INDEX64"] else 32, str(dtype).removeprefix("torch.")
        print(f"{arch:8}{name:32}{kind:10}{width:6}{found['registers']:10}{found['shared']:8}{found['spills']:7}")
        assert cubin.code.startswith(b"\x7fELF")
        assert found["spills"] == 0, f"{name}, {kind}: {cubin.log}"
        assert found["registers"] * driver.THREADS <= 2**15, f"{name}: fewer than two blocks fit an SM"
        assert found["shared"] <= SHARED_BYTES


@needs_nvrtc
def test_the_second_compilation_is_the_cache(own_cache, monkeypatch):
    kernel, defines = SMALL
    first = compiler.compile_kernel(kernel, defines, "sm_90")
    assert len(list(own_cache.rglob("bias_act-sm_90-*"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(compiler, "_compile", lambda *_: pytest.fail("compiled again"))
        assert compiler.compile_kernel(kernel, defines, "sm_90") == first
    relu = tuple((name, 1 if name == "ACT" else value) for name, value in defines)
    assert compiler.compile_kernel(kernel, defines, "sm_80").code != first.code
    assert compiler.compile_kernel(kernel, relu, "sm_90").code != first.code
    assert len(list(own_cache.rglob("bias_act-*"))) == 3


@pytest.fixture
def counted(monkeypatch) -> list[str]:
    """The compilations, which are not run."""
    calls: list[str] = []

    def compile_(kernel, text, defines, arch):
        calls.append(arch)
        return compiler.Cubin(b"machine code", f"log of {kernel}")

    monkeypatch.setattr(compiler, "_compile", compile_)
    monkeypatch.setattr(compiler, "version", lambda: "13.2")
    monkeypatch.setattr(compiler, "installed_version", lambda _: "1.2.2")
    return calls


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: data[:-3], lambda data: data[:-1] + b"?"])
def test_a_damaged_entry_is_compiled_again(own_cache, counted, damage):
    first = compiler.compile_kernel(*SMALL, "sm_90")
    (entry,) = own_cache.rglob("bias_act-*")
    entry.write_bytes(damage(entry.read_bytes()))
    assert compiler.compile_kernel(*SMALL, "sm_90") == first
    assert compiler.compile_kernel(*SMALL, "sm_90") == first  # mended
    assert len(counted) == 2 and list(own_cache.rglob("*-sm_90-*")) == [entry]


def test_another_compiler_or_source_is_another_entry(own_cache, counted, monkeypatch):
    compiler.compile_kernel(*SMALL, "sm_90")
    monkeypatch.setattr(compiler, "version", lambda: "13.3")
    compiler.compile_kernel(*SMALL, "sm_90")
    monkeypatch.setattr(compiler, "installed_version", lambda _: "1.3.0")
    compiler.compile_kernel(*SMALL, "sm_90")
    monkeypatch.setattr(compiler, "source", lambda _: "// changed")
    compiler.compile_kernel(*SMALL, "sm_90")
    assert len(counted) == len(list(own_cache.rglob("bias_act-*"))) == 4


def test_without_a_cache_it_compiles_every_time(own_cache, counted):
    own_cache.write_text("a file where the directory would be")
    for _ in range(2):
        assert compiler.compile_kernel(*SMALL, "sm_90").code == b"machine code"
    assert len(counted) == 2


@needs_nvrtc
def test_the_compilers_whole_log_is_in_the_error_once(monkeypatch, own_cache):
    monkeypatch.setattr(compiler, "source", lambda _: "int first = unheard;\nint second = unseen;\n")
    with pytest.raises(compiler.CompilationError) as caught:
        compiler.compile_kernel(*SMALL, "sm_90")
    message = str(caught.value)
    assert message.startswith("bias_act.cu for sm_90 with ACT=2, DTYPE=0")
    assert [message.count(word) for word in ('"unheard" is undefined', '"unseen" is undefined')] == [1, 1]
    assert "bias_act.cu(2)" in message
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    assert not list(own_cache.rglob("bias_act-*"))


def test_lines_are_counted_in_the_kernels_own_file():
    for kernel in ("upfirdn2d", "bias_act", "synthesis_epilogue"):
        text = compiler.source(kernel).split("\n")
        directive = next(i for i, line in enumerate(text) if line.startswith("#line") and kernel in line)
        own = (compiler.KERNELS / f"{kernel}.cu").read_text(encoding="utf-8").split("\n")
        number = int(text[directive].split()[1])
        assert text[directive + 1 :] == own[number - 1 :]
        assert "#include" not in "\n".join(text)


def not_installed(_: str) -> str:
    raise PackageNotFoundError


def test_available_says_why_not(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert launch.available() == (False, "no CUDA device")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(compiler, "installed_version", not_installed)
    assert launch.available() == (False, "cuda-core is not installed")
    monkeypatch.setattr(compiler, "installed_version", lambda _: "1.2.2")
    monkeypatch.setattr(compiler, "version", lambda: 1 / 0)
    assert launch.available() == (False, "NVRTC can't be loaded: division by zero")
    monkeypatch.setattr(compiler, "version", lambda: "13.2")
    monkeypatch.setattr(compiler, "architectures", lambda: {"sm_75", "sm_90"})
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    assert launch.available() == (False, "NVRTC 13.2 does not compile for sm_70")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    assert launch.available() == (True, "CUDA sm_90")


@pytest.mark.parametrize(
    ("platform", "variable", "expected"),
    [
        ("linux", "XDG_CACHE_HOME", "given/latentprint"),
        ("linux", "", ".cache/latentprint"),
        ("darwin", "", "Library/Caches/latentprint"),
        ("win32", "LOCALAPPDATA", "given/latentprint"),
        ("win32", "", "AppData/Local/latentprint"),
    ],
)
def test_the_cache_is_in_the_users_own_place(monkeypatch, tmp_path, platform, variable, expected):
    for name in ("LATENTPRINT_CACHE", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(compiler.sys, "platform", platform)
    monkeypatch.setattr(compiler.Path, "home", lambda: tmp_path)
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "given"))
    assert compiler.cache_directory() == tmp_path / expected
