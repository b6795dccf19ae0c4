"""PyTorch's attention of one decoded token at Llama-3-8B's shapes and 96K, in a CUDA graph: what ours is beside. Prints JSON lines."""

import json
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

LAYERS, KV_HEADS, GROUP, HEAD_DIM, CONTEXT = 32, 8, 4, 128, 98304
BATCHES = (1, 2, 4, 8)
ROUNDS = 25
# Keys and values of different layers, so that none is in a cache when its turn comes; not all 32 where that many take long to fill.
MAX_BYTES = 28 << 30
BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION)


def say(**line):
    print(json.dumps({"step": "torch", **line}), flush=True)


def attend(query, keys, values):
    return torch.nn.functional.scaled_dot_product_attention(query, keys, values, enable_gqa=True)


def milliseconds(query, stores):
    """Median of rounds of one graph over all layers."""
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for _ in range(2):
            attend(query, *stores[0])
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for layer in range(LAYERS):
            attend(query, *stores[layer % len(stores)])
    times = []
    for i in range(ROUNDS + 1):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        graph.replay()
        end.record()
        end.synchronize()
        # The first one warms up.
        if i > 0:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def measure(batch):
    layer_bytes = 2 * batch * KV_HEADS * CONTEXT * HEAD_DIM * 2
    shape = (batch, KV_HEADS, CONTEXT, HEAD_DIM)
    free, _ = torch.cuda.mem_get_info()
    num_stores = max(1, min(LAYERS, MAX_BYTES // layer_bytes, int(0.8 * free) // layer_bytes))
    stores = [tuple(torch.randn(shape, dtype=torch.float16, device="cuda") for _ in range(2)) for _ in range(num_stores)]
    query = torch.randn((batch, KV_HEADS * GROUP, 1, HEAD_DIM), dtype=torch.float16, device="cuda")
    for backend in BACKENDS:
        line = {"sequences": batch, "backend": backend.name, "attention_gb": LAYERS * layer_bytes / 1e9}
        try:
            with sdpa_kernel(backend):
                say(**line, attention_ms=milliseconds(query, stores))
        # What a backend does not take differs from version to version.
        except RuntimeError as error:
            say(**line, note=str(error).splitlines()[0][:160])


def main():
    if not torch.cuda.is_available():
        say(torch=torch.__version__, note="sees no card: not run")
        return
    say(torch=torch.__version__)
    for batch in BATCHES:
        try:
            measure(batch)
        except torch.cuda.OutOfMemoryError:
            say(sequences=batch, note="does not fit in the device's memory")
        torch.cuda.empty_cache()


main()
