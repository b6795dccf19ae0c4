// Where rows of a step lie in the paged KV store: the twins of src/launch/slot.rs, which says what the fields are.
#pragma once
#include "common.cuh"

// One (sequence, KV head) of one layer of a decode step.
struct SlotLayout {
    uint64_t pages;        // u64 [pages]: addresses of whole pages of 256 positions
    uint64_t head_offset;  // bytes into each page before this (layer, KV head)
    uint32_t len;          // tokens stored, this one included
    uint32_t start, end;   // the region; sinks lie before, window after; empty: everything is read
    uint32_t max_selected; // 0 = all candidates are read
    float top_p;
    uint32_t on_host;      // 1: the host scores and attends to what is listed
};
static_assert(sizeof(SlotLayout) == 40, "as in Rust");

// One row of a step, of a prompt or a decode: where its key and value are stored.
struct RowPlace {
    uint64_t pages;     // as SlotLayout's
    uint32_t position;  // index in its sequence
    uint32_t reserved;
};
static_assert(sizeof(RowPlace) == 16, "as in Rust");
