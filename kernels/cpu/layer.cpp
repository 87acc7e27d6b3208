#include "layer.h"

#include <cstring>

#include "checked.h"
#include "pool.h"

namespace moontide {
namespace {

// Pieces of one room, which stays with the thread.
class Arena {
  public:
    int64_t bytes = 0;
    char* base = nullptr;

    template <class T = void> T* take(int64_t size) {
        const int64_t from = bytes;
        bytes += (size + 63) / 64 * 64;
        return reinterpret_cast<T*>(base + from);
    }
};

class Layer {
  public:
    Layer(const Table& table, const LayerWeights& weights, const LayerInput& input) : t(table), w(weights), in(input) {
        Arena arena;
        lay_out(arena);
        arena.base = static_cast<char*>(room(LAYER, arena.bytes));
        arena.bytes = 0;
        lay_out(arena);
    }

    int64_t run() {
        norm(in.h, w.input_norm, x, w.hidden, w.hidden, w.eps);
        down();
        write_latents();
        queries();
        const Attention job{query, in.pool, in.tables, in.owners, in.positions, attended, in.rows, w.heads, width,
                            w.rank, in.page, in.pages, in.table_row, w.scale, narrow};
        if (const int64_t wrong = checked_attention(t, job, in.table_rows)) return wrong;
        product(w.values, attended, values, w.value, w.heads * w.rank, w.rank, w.heads * w.value, w.value);
        product(w.out, values, branch, w.hidden, w.heads * w.value, 0, w.hidden, 0);
        add(in.h, branch, in.out);
        norm(in.out, w.inner_norm, x, w.hidden, w.hidden, w.eps);
        if (const int64_t wrong = w.router.values ? mixture() : swiglu(w.gate_up, w.down, branch)) return wrong;
        add(in.out, branch, in.out);
        return 0;
    }

  private:
    const Table& t;
    const LayerWeights& w;
    const LayerInput& in;
    const bool narrow = w.is_bf16;
    const int64_t element = narrow ? 2 : 4, width = w.rank + w.rope, head = w.nope + w.rope;
    void *x, *latents, *low, *raw, *query, *attended, *values, *branch, *inner, *mixed, *shared;
    float *scores, *parts;
    int64_t *chosen, *zeros;

    void lay_out(Arena& arena) {
        const int64_t row = in.rows * element;
        const int64_t most = w.router.values ? w.chosen * w.down.columns : w.down.columns;
        const int64_t common = w.shared_down.values ? w.shared_down.columns : 0;
        x = arena.take(row * w.hidden);
        latents = arena.take(2 * row * width);
        low = arena.take(2 * row * w.query_rank);
        raw = arena.take(row * w.heads * head);
        query = arena.take(row * w.heads * width);
        attended = arena.take(row * w.heads * w.rank);
        values = arena.take(row * w.heads * w.value);
        branch = arena.take(row * w.hidden);
        inner = arena.take(in.rows * 4 * (most > common ? most : common));
        mixed = arena.take(w.router.values ? row * w.chosen * w.hidden : 0);
        shared = arena.take(common ? row * w.hidden : 0);
        scores = arena.take<float>(w.router.values ? in.rows * w.down.count * 4 : 0);
        parts = arena.take<float>(in.rows * w.chosen * 4);
        chosen = arena.take<int64_t>(in.rows * w.chosen * 8);
        zeros = arena.take<int64_t>(in.rows * 8);
    }

    void* at(void* base, int64_t index) const { return static_cast<char*>(base) + index * element; }

    void norm(const void* from, const void* weight, void* to, int64_t columns, int64_t from_row, float eps) const {
        t.rms_norm({from, weight, nullptr, to, in.rows, 1, columns, from_row, 0, columns, 0, eps, narrow});
    }

    Products job(const Matrices& weight, const void* from, void* to, int64_t outputs, int64_t from_row,
                 int64_t from_matrix, int64_t to_row, int64_t to_matrix) const {
        return {weight, from, to, in.rows, outputs, from_row, from_matrix, to_row, to_matrix, narrow, narrow, false};
    }

    void product(const Matrices& weight, const void* from, void* to, int64_t outputs, int64_t from_row,
                 int64_t from_matrix, int64_t to_row, int64_t to_matrix) const {
        const Products one = job(weight, from, to, outputs, from_row, from_matrix, to_row, to_matrix);
        t.products(&one, 1);
    }

    void rotate(const void* from, void* to, int64_t slots, int64_t from_row, int64_t from_slot, int64_t to_row,
                int64_t to_slot) const {
        t.rotate({from, in.cosine, in.sine, to, in.rows, slots, w.rope, from_row, from_slot, to_row, to_slot, 0.0f, narrow});
    }

    void add(const void* one, const void* other, void* to) const {
        t.add({one, other, nullptr, to, in.rows, 1, w.hidden, w.hidden, 0, w.hidden, 0, 0.0f, narrow});
    }

    void* raw_latents() const { return at(latents, in.rows * width); }
    void* raw_low() const { return at(low, in.rows * w.query_rank); }

    // Latents, and what queries are made from.
    void down() const {
        const Products both[] = {job(w.latent, x, raw_latents(), width, w.hidden, 0, width, 0),
                                 job(w.query_down, x, raw_low(), w.query_rank, w.hidden, 0, w.query_rank, 0)};
        t.products(both, w.query_down.values ? 2 : 1);
    }

    // What is cached: the normalised latent and the rotated key part, each row at its slot.
    void write_latents() const {
        void* both = raw_latents();
        t.rms_norm({both, w.latent_norm, nullptr, latents, in.rows, 1, w.rank, width, 0, width, 0, w.latent_eps, narrow});
        rotate(at(both, w.rank), at(latents, w.rank), 1, width, 0, width, 0);
        for (int64_t row = 0; row < in.rows; ++row)
            memcpy(at(in.pool, in.slots[row] * width), at(latents, row * width), width * element);
    }

    void queries() const {
        const void* from = x;
        int64_t columns = w.hidden;
        if (w.query_down.values) {
            norm(raw_low(), w.query_norm, low, w.query_rank, w.query_rank, w.latent_eps);
            from = low;
            columns = w.query_rank;
        }
        product(w.query, from, raw, w.heads * head, columns, 0, w.heads * head, 0);
        product(w.keys, raw, query, w.rank, w.heads * head, head, w.heads * width, width);
        rotate(at(raw, w.nope), at(query, w.rank), w.heads, w.heads * head, head, w.heads * width, width);
    }

    // The block that every row has chosen.
    int64_t swiglu(const Matrices& gate_up, const Matrices& down, void* to) const {
        memset(zeros, 0, in.rows * 8);
        return checked_experts(t, {gate_up, down, x, zeros, inner, to, in.rows, 1, w.hidden, w.hidden, narrow});
    }

    int64_t mixture() const {
        const int64_t experts = w.down.count;
        const Products scoring{w.router, x, scores, in.rows, experts, w.hidden, 0, experts, 0, narrow, false, true};
        t.products(&scoring, 1);
        for (int64_t row = 0; row < in.rows; ++row) choose(scores + row * experts, parts + row * w.chosen, chosen + row * w.chosen);
        const Experts job{w.gate_up, w.down, x, chosen, inner, mixed, in.rows, w.chosen, w.hidden, w.hidden, narrow};
        if (const int64_t wrong = checked_experts(t, job)) return wrong;
        t.weighted_sum({mixed, parts, nullptr, branch, in.rows, w.chosen, w.hidden, 0, 0, w.hidden, 0, 0.0f, narrow});
        if (!w.shared_down.values) return 0;
        if (const int64_t wrong = swiglu(w.shared_gate_up, w.shared_down, shared)) return wrong;
        add(branch, shared, branch);
        return 0;
    }

    // The experts of largest score and bias, best first, the lower one on a tie; weights from the scores alone.
    void choose(const float* score, float* weight, int64_t* expert) const {
        float best[MOST_CHOSEN];
        for (int64_t e = 0; e < w.down.count; ++e) {
            const float value = score[e] + w.bias[e];
            int64_t place = e < w.chosen ? e : w.chosen - 1;
            if (e >= w.chosen && !(value > best[place])) continue;
            for (; place > 0 && value > best[place - 1]; --place) {
                best[place] = best[place - 1];
                expert[place] = expert[place - 1];
            }
            best[place] = value;
            expert[place] = e;
        }
        float sum = 0.0f;
        for (int64_t k = 0; k < w.chosen; ++k) sum = k ? sum + score[expert[k]] : score[expert[k]];
        for (int64_t k = 0; k < w.chosen; ++k)
            weight[k] = (w.normalise ? score[expert[k]] / (sum + 1e-20f) : score[expert[k]]) * w.routed_scale;
    }
};

int64_t run_layer(const Table& table, const LayerWeights& weights, const LayerInput& input) {
    if (weights.chosen > MOST_CHOSEN || weights.chosen > weights.down.count) return OUT_OF_RANGE;
    for (int64_t row = 0; row < input.rows; ++row)
        if (input.slots[row] < 0 || input.slots[row] >= input.pages * input.page) return OUT_OF_RANGE;
    return Layer(table, weights, input).run();
}

}  // namespace

int64_t run_layers(const Table& table, const LayerWeights* const* layers, int64_t count, LayerInput input) {
    for (int64_t layer = 0; layer < count; ++layer) {
        const LayerWeights& weights = *layers[layer];
        if (const int64_t wrong = run_layer(table, weights, input)) return wrong;
        const int64_t positions = input.pages * input.page, width = weights.rank + weights.rope;
        input.pool = static_cast<char*>(input.pool) + positions * width * (weights.is_bf16 ? 2 : 4);
        input.h = input.out;
    }
    if (input.last_norm)
        table.rms_norm({input.out, input.last_norm, nullptr, input.out, input.rows, 1, layers[0]->hidden,
                        layers[0]->hidden, 0, layers[0]->hidden, 0, input.last_eps, layers[0]->is_bf16 != 0});
    return 0;
}

}  // namespace moontide
