// The C interface: checks what could leave the memory of a tensor, then calls the chosen instruction set.
// Returns 0, or a negative number that names what was wrong.
#include <new>

#include "checked.h"
#include "common.h"
#include "layer.h"

#define MOONTIDE_API extern "C" __attribute__((visibility("default")))

namespace {

using namespace moontide;

bool supported(int64_t isa) {
    if (isa == 0) return true;
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    if (isa == 1) return avx2;
    if (isa == 2) return avx512;
    // vbmi2 is for bf12. Cooper Lake, which has bf16 products and not that, runs as avx512.
    if (isa == 3) return avx512 && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vbmi2");
#endif
    return false;
}

const Table* table(int64_t isa) {
    switch (isa) {
        case 1: return avx2_table();
        case 2: return avx512_table();
        case 3: return avx512_bf16_table();
        default: return generic_table();
    }
}

Matrices matrices(const int64_t* shape, const void* values, const void* scales) {
    return {static_cast<const char*>(values), static_cast<const bf16*>(scales), shape[0], shape[1], shape[2], shape[3]};
}

template <class Body> int64_t guarded(Body body) {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        return OUT_OF_MEMORY;
    }
}

}  // namespace

MOONTIDE_API int64_t moontide_supported(int64_t isa) { return supported(isa) && table(isa); }
MOONTIDE_API void moontide_set_threads(int64_t count) { set_threads(count); }
MOONTIDE_API int64_t moontide_threads() { return threads(); }

// shape: format, count, blocks, columns. flags: 1 x is bf16, 2 out is bf16, 4 sigmoid.
MOONTIDE_API int64_t moontide_products(int64_t isa, const int64_t* shape, const void* values, const void* scales,
                                       const void* x, void* out, int64_t rows, int64_t outputs, int64_t x_row,
                                       int64_t x_matrix, int64_t out_row, int64_t out_matrix, int64_t flags) {
    return guarded([&] {
        const Products job{matrices(shape, values, scales), x, out, rows, outputs, x_row, x_matrix, out_row, out_matrix,
                           (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0};
        table(isa)->products(&job, 1);
        return 0;
    });
}

// shapes: of gate and up, then of down. room: rows * slots * columns of down, in 4 bytes each.
MOONTIDE_API int64_t moontide_experts(int64_t isa, const int64_t* shapes, const void* wide, const void* wide_scales,
                                      const void* narrow, const void* narrow_scales, const void* x,
                                      const int64_t* chosen, void* inner, void* out, int64_t rows, int64_t slots,
                                      int64_t outputs, int64_t x_row, int64_t x_bf16) {
    return guarded([&] {
        return checked_experts(*table(isa), {matrices(shapes, wide, wide_scales), matrices(shapes + 4, narrow, narrow_scales),
                                             x, chosen, inner, out, rows, slots, outputs, x_row, x_bf16 != 0});
    });
}

MOONTIDE_API int64_t moontide_attention(int64_t isa, const void* query, const void* pool, const int32_t* tables,
                                        const int64_t* sequences, const int64_t* positions, void* out, int64_t rows,
                                        int64_t heads, int64_t width, int64_t rank, int64_t page, int64_t pages,
                                        int64_t table_rows, int64_t table_row, float scale, int64_t is_bf16) {
    return guarded([&] {
        return checked_attention(*table(isa), {query, pool, tables, sequences, positions, out, rows, heads, width, rank, page,
                                               pages, table_row, scale, is_bf16 != 0}, table_rows);
    });
}

MOONTIDE_API int64_t moontide_rms_norm(int64_t isa, const void* x, const void* weight, void* out, int64_t rows,
                                       int64_t columns, int64_t x_row, float eps, int64_t is_bf16) {
    table(isa)->rms_norm({x, weight, nullptr, out, rows, 1, columns, x_row, 0, columns, 0, eps, is_bf16 != 0});
    return 0;
}

MOONTIDE_API int64_t moontide_rotate(int64_t isa, const void* x, const void* cosine, const void* sine, void* out,
                                     int64_t rows, int64_t slots, int64_t columns, int64_t x_row, int64_t x_slot,
                                     int64_t is_bf16) {
    table(isa)->rotate({x, cosine, sine, out, rows, slots, columns, x_row, x_slot, slots * columns, columns, 0.0f, is_bf16 != 0});
    return 0;
}

MOONTIDE_API int64_t moontide_weighted_sum(int64_t isa, const void* x, const void* weights, void* out, int64_t rows,
                                           int64_t slots, int64_t columns, int64_t is_bf16) {
    table(isa)->weighted_sum({x, weights, nullptr, out, rows, slots, columns, 0, 0, columns, 0, 0.0f, is_bf16 != 0});
    return 0;
}

MOONTIDE_API int64_t moontide_layers(int64_t isa, const LayerWeights* const* layers, int64_t count, const LayerInput* input) {
    return guarded([&] { return run_layers(*table(isa), layers, count, *input); });
}

MOONTIDE_API int64_t moontide_draws(int64_t isa, DrawRow* rows, int64_t count) {
    return guarded([&] { return checked_draws(*table(isa), rows, count); });
}

// Rows of one plain matrix [N, K] to panels first, first + step, … of a zeroed destination.
MOONTIDE_API void moontide_pack(const void* from, void* to, int64_t bytes, int64_t rows, int64_t columns,
                                int64_t padded, int64_t first, int64_t step) {
    for_each_item((rows + LANES - 1) / LANES, [&](int64_t item) {
        const int64_t panel = first + item * step, lanes = rows - item * LANES < LANES ? rows - item * LANES : LANES;
        for (int64_t k = 0; k < columns; ++k)
            for (int64_t lane = 0; lane < lanes; ++lane) {
                const int64_t source = (item * LANES + lane) * columns + k;
                const int64_t step_at = ((panel / PANELS * (padded / 2) + k / 2) * PANELS + panel % PANELS) * 2 * LANES;
                if (bytes == 2) static_cast<uint16_t*>(to)[step_at + lane * 2 + k % 2] = static_cast<const uint16_t*>(from)[source];
                else static_cast<uint32_t*>(to)[step_at + k % 2 * LANES + lane] = static_cast<const uint32_t*>(from)[source];
            }
    });
}

// The same for INT4: words [N, ceil(K / 8)] and scales [N, ceil(K / 32)]; the destination holds nibbles of 8 and zeros.
MOONTIDE_API void moontide_pack_int4(const uint32_t* words, const uint16_t* scales, uint16_t* to, uint16_t* to_scales,
                                     int64_t rows, int64_t columns, int64_t padded, int64_t first, int64_t step) {
    const int64_t row_words = (columns + 7) / 8, row_groups = (columns + GROUP - 1) / GROUP, groups = padded / GROUP;
    for_each_item((rows + LANES - 1) / LANES, [&](int64_t item) {
        const int64_t panel = first + item * step, lanes = rows - item * LANES < LANES ? rows - item * LANES : LANES;
        for (int64_t lane = 0; lane < lanes; ++lane) {
            const int64_t row = item * LANES + lane;
            for (int64_t g = 0; g < row_groups; ++g)
                to_scales[((panel / PANELS * groups + g) * PANELS + panel % PANELS) * LANES + lane] = scales[row * row_groups + g];
            for (int64_t word = 0; word < row_words; ++word) {
                uint32_t bits = words[row * row_words + word];
                for (int64_t k = columns - word * 8; k < 8; ++k) bits = (bits & ~(15u << 4 * k)) | 8u << 4 * k;
                uint16_t low = 0, high = 0;
                for (int64_t j = 0; j < 4; ++j) {
                    low |= (bits >> 8 * j & 15) << 4 * j;
                    high |= (bits >> (8 * j + 4) & 15) << 4 * j;
                }
                uint16_t* place = to + ((panel / PANELS * (padded / 8) + word) * PANELS + panel % PANELS) * 2 * LANES + lane * 2;
                place[0] = low;
                place[1] = high;
            }
        }
    });
}
