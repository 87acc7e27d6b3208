// Whole decoder layers in one call, so that a decode step is not spent on calling: `shared/model/decoder.py` says what
// it computes, and it gives the same bits, since it is the same operations in the same order.
#pragma once
#include "jobs.h"

namespace moontide {

// As `kernels/cpu/layer.py` fills it in. A matrix that is not there has no values.
struct LayerWeights {
    Matrices query_down, query, latent, keys, values, out, router, gate_up, down, shared_gate_up, shared_down;
    const void *input_norm, *query_norm, *latent_norm, *inner_norm;
    const float* bias;  // [E], moves the choice of experts
    int64_t hidden, heads, nope, rope, value, rank, query_rank;
    int64_t chosen;     // experts per row
    int64_t normalise;  // weights of the chosen experts add up to 1 before they are scaled
    int64_t is_bf16;
    float eps, latent_eps, scale, routed_scale;
};

struct LayerInput {
    const void* h;               // [T, D]
    void* out;                   // [T, D], may be the same place
    const float *cosine, *sine;  // [T, P / 2]
    const int64_t* slots;        // [T]: where in the pool a row's latent goes
    const int32_t* tables;
    const int64_t *owners, *positions;
    void* pool;  // [layers, pages, page, R + P]
    int64_t rows, page, pages, table_rows, table_row;
    const void* last_norm;  // of what the last layer gives, or null
    float last_eps;
};

// One after another: each reads what the one before wrote.
int64_t run_layers(const Table& table, const LayerWeights* const* layers, int64_t count, LayerInput input);

}  // namespace moontide
