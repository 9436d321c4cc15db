"""The operators of StyleGAN2, Appendix B: filtered up/downsampling, bias + activation, epilogues; the convolution."""

from cuda_ops.bias_act import bias_act
from cuda_ops.convolution import convolve3x3
from cuda_ops.dispatch import kernel_in_use
from cuda_ops.synthesis_epilogue import scale_channels, synthesis_epilogue
from cuda_ops.upfirdn2d import downsample2d, filter2d, setup_filter, upfirdn2d, upsample2d

__all__ = [
    "bias_act",
    "convolve3x3",
    "downsample2d",
    "filter2d",
    "kernel_in_use",
    "scale_channels",
    "setup_filter",
    "synthesis_epilogue",
    "upfirdn2d",
    "upsample2d",
]
