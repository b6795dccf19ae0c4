// A kernel without a mistake, for tests of everything but kernels: out[i] = value for i < count.
//
//   out    u32 [count]
//
// Grid (ceil(count / 256)), 256 threads. Writes count * 4 bytes.
#include "../../kernels/common.cuh"

extern "C" __global__ void fill_u32(unsigned* __restrict__ out, int count, unsigned value) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) out[i] = value;
}
KERNEL(fill_u32)
