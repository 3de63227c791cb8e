"""Where a step's time goes, by kinds of kernels."""

import ast
from pathlib import Path

import pytest

from benchmarks.baselines import baselines, training_step
from benchmarks.profiler import kernel_kind, time_breakdown
from benchmarks.steps import synthetic_batch
from tests.benchmarks.test_steps import CPU, TINY

ROOT = Path(__file__).parents[2]
KERNELS = {
    "conv forward": [
        "sm90_xmma_fprop_implicit_gemm_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_tilesize128x128x64_cudnn",
        "volta_scudnn_128x64_relu_interior_nn_v1", "aten::mkldnn_convolution",
    ],
    "conv dgrad": [
        "sm80_xmma_dgrad_implicit_gemm_indexed_bf16bf16_bf16f32_f32_nhwckrsc_nhwc_cudnn",
    ],
    "conv wgrad": [
        "void cutlass__5x_cudnn::Kernel<cutlass_tensorop_bf16_s16816wgrad_optimized_bf16_128x128>",
        "void wgrad2d_grouped_direct_kernel<__half, float>",
    ],
    "BN and ReLU": [
        "void cudnn::bn_fw_tr_1C11_kernel_NCHW<float, float, int, 512, true, 1, true>",
        "void cudnn::batchnorm_bwtr_nhwc_semiPersist<__nv_bfloat16>",
        "void at::native::batch_norm_collect_statistics_channels_last_kernel<at::native::Var>",
        "triton_red_fused__native_batch_norm_legit_functional__to_copy_convolution_3", "bn_relu_backward_kernel",
        "void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>>",
        "void at::native::vectorized_elementwise_kernel<4, at::native::launch_clamp_scalar>",
        "aten::native_batch_norm_backward", "aten::threshold_backward",
    ],
    "copies": [
        "void cudnn::ops::nchwToNhwcKernel<__half, __half, float>",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda>",
        "cudnn::cnn::convertTensor_kernel", "Memcpy DtoD (Device -> Device)", "_store_line",
    ],
    "other": [
        "void cask__5x_cudnn::computeOffsetsKernel",
        "void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps>>",
    ],
    "optimiser": [
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<BinaryOpListAlphaFunctor>",
        "Optimizer.step#SGD.step", "aten::_foreach_add_",
    ],
    "matmul": [
        "void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16_128x2_tn_align8>", "aten::addmm",
    ],
    "conv backward": [
        "aten::convolution_backward",
    ],
}  # fmt: skip


@pytest.mark.parametrize(("kind", "names"), KERNELS.items(), ids=KERNELS)
def test_kernel_kind_follows_the_name(kind, names):
    assert {name: kernel_kind(name) for name in names} == dict.fromkeys(names, kind)


@pytest.mark.parametrize(("file", "kinds"), [("bn", {"BN and ReLU"}), ("pair", {"BN in convolutions", "conv forward"})])
def test_own_kernels_count_as_what_they_replace(file, kinds):
    tree = ast.parse((ROOT / "r21d_core" / "models" / f"{file}_kernels.py").read_text())
    names = [node.name for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    assert {kernel_kind(name) for name in names} == kinds


def test_time_breakdown_sums_to_one():
    _, step = training_step(baselines(TINY, CPU)[-1], TINY, CPU)
    clips, target = synthetic_batch(TINY, CPU)
    shares = dict(time_breakdown(lambda: step(clips, target), CPU))
    assert sum(shares.values()) == pytest.approx(1)
    assert {"conv forward", "conv backward", "BN and ReLU", "optimiser"} <= set(shares)
