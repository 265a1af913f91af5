// What torch/csrc/cuda/nccl.h takes from the header of this name: streams. The header itself asks for those of cuBLAS,
// cuSPARSE and cuSOLVER, which nothing here calls.
#pragma once

#include <ATen/Context.h>
#include <c10/cuda/CUDAStream.h>
