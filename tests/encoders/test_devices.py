"""The device and the dtype that are picked."""

import pytest
import torch
from tiny_models import CLIP, GOLDEN

from fgseg.encoders import devices
from fgseg.encoders.loading import load_encoder
from fgseg.errors import DeviceError


@pytest.mark.parametrize(("is_fast", "expected"), [(True, torch.bfloat16), (False, torch.float32)])
def test_auto_takes_bfloat16_where_the_processor_multiplies_it_natively(monkeypatch, is_fast, expected):
    monkeypatch.setattr(devices, "has_fast_bfloat16", lambda: is_fast)
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or is_fast
    )
    assert devices.pick_dtype("auto", torch.device("cpu")) == expected
    assert devices.pick_dtype("auto", torch.device("cuda")) == expected  # a card that emulates it does not count
    assert devices.pick_dtype("auto", torch.device("mps")) == torch.float32
    assert load_encoder(str(GOLDEN / CLIP), device="cpu").dtype == expected


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_dtype_is_accepted_by_name_and_as_a_torch_dtype(name):
    for dtype in (name, getattr(torch, name)):
        assert devices.pick_dtype(dtype, torch.device("cpu")) == getattr(torch, name)


@pytest.mark.parametrize("dtype", ["float64", "int8", torch.float64, "", None])
def test_another_dtype_is_refused(dtype):
    with pytest.raises(DeviceError, match="dtype: expected one of auto, float32, bfloat16, float16, got"):
        load_encoder(str(GOLDEN / CLIP), device="cpu", dtype=dtype)


@pytest.mark.parametrize(
    ("flags", "limit", "is_fast"),
    [
        ("flags : fpu avx2 avx512f avx512_bf16 sse", "", True),
        ("flags : fpu amx_bf16 amx_tile", "", True),
        ("flags : fpu avx2 avx512f avx512_bf16x", "", False),
        ("flags : fpu amx_bf16 avx512_bf16", "AVX512_CORE_VNNI", False),
        ("flags : fpu amx_bf16 avx512_bf16", "avx2", False),
        ("flags : fpu amx_bf16 avx512_bf16", "AVX512_CORE_BF16", True),
    ],
)
def test_native_bfloat16_depends_on_the_processors_flags_and_on_what_onednn_may_use(
    monkeypatch, tmp_path, flags, limit, is_fast
):
    (tmp_path / "cpuinfo").write_text(flags)
    monkeypatch.setattr(devices, "Path", lambda path: {"/proc/cpuinfo": tmp_path / "cpuinfo"}[path])
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", limit)
    assert devices.has_fast_bfloat16() == is_fast
    (tmp_path / "cpuinfo").unlink()
    assert not devices.has_fast_bfloat16()


@pytest.mark.parametrize(
    ("name", "expected"), [("x86_64", True), ("AMD64", True), ("aarch64", False), ("arm64", False)]
)
def test_the_family_of_the_processor_follows_from_its_name(monkeypatch, name, expected):
    monkeypatch.setattr(devices.platform, "machine", lambda: name)
    assert devices.is_x86() == expected


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cuda:x", "xpu", "", None])
def test_a_device_that_the_machine_lacks_is_refused(device):
    with pytest.raises(DeviceError, match=r"device: (expected auto, cpu, cuda, cuda:N or mps, got|.* is not on this)"):
        load_encoder(str(GOLDEN / CLIP), device=device)


def test_the_error_about_a_missing_card_says_which_devices_the_machine_has(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert devices.pick_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(
        DeviceError, match=r"'cuda:2' is not on this machine, which has cpu \(1\), cuda \(2\); use device"
    ):
        devices.pick_device("cuda:2")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_cuda_then_mps_then_the_cpu(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert devices.pick_device("auto") == torch.device(expected)
