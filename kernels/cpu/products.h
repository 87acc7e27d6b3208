// Matrix products: tiles of rows by panels, every output one chain over the pairs of columns.

// One step of two input columns for sixteen outputs.
template <class X> struct Steps;

template <> struct Steps<float> {
    struct Step { F even, odd; };
    static MOONTIDE_INLINE Step of(I w) { return {Isa::even(w), Isa::odd(w)}; }
    static MOONTIDE_INLINE Step narrow(const char* p) { return of(Isa::words(p)); }
    static MOONTIDE_INLINE Step wide(const char* p) {
        return {Isa::load(reinterpret_cast<const float*>(p)), Isa::load(reinterpret_cast<const float*>(p) + LANES)};
    }
    template <int SHIFT> static MOONTIDE_INLINE Step nibble(I w) {
        return {Isa::template nibble<SHIFT>(w), Isa::template nibble<SHIFT + 16>(w)};
    }
    static MOONTIDE_INLINE F dot(F sum, const Step& s, const float* x) {
        return Isa::fma(s.odd, Isa::set1(x[1]), Isa::fma(s.even, Isa::set1(x[0]), sum));
    }
};

#ifdef MOONTIDE_DOT
template <> struct Steps<bf16> {
    using Step = I;
    static MOONTIDE_INLINE Step of(I w) { return w; }
    static MOONTIDE_INLINE Step narrow(const char* p) { return Isa::words(p); }
    static MOONTIDE_INLINE Step wide(const char* p) { return Isa::words(p); }
    template <int SHIFT> static MOONTIDE_INLINE Step nibble(I w) {
        return Isa::nibble_pair<SHIFT>(w, Isa::nibble_table());
    }
    static MOONTIDE_INLINE F dot(F sum, Step s, const bf16* x) { return Isa::dot(sum, s, x); }
};
#endif

template <class X, int R, int P>
MOONTIDE_INLINE void add_step(F (&sum)[R][P], const typename Steps<X>::Step (&step)[P], const X* const (&x)[R], int64_t column) {
    MOONTIDE_UNROLL for (int r = 0; r < R; ++r)
        MOONTIDE_UNROLL for (int p = 0; p < P; ++p) sum[r][p] = Steps<X>::dot(sum[r][p], step[p], x[r] + column);
}

template <class X, int SHIFT, int R, int P>
MOONTIDE_INLINE void add_nibbles(F (&sum)[R][P], const I (&words)[P], const X* const (&x)[R], int64_t column) {
    typename Steps<X>::Step step[P];
    MOONTIDE_UNROLL for (int p = 0; p < P; ++p) step[p] = Steps<X>::template nibble<SHIFT>(words[p]);
    add_step<X, R, P>(sum, step, x, column);
}

template <int R, int P> MOONTIDE_INLINE void clear(F (&sum)[R][P]) {
    MOONTIDE_UNROLL for (int r = 0; r < R; ++r)
        MOONTIDE_UNROLL for (int p = 0; p < P; ++p) sum[r][p] = Isa::zero();
}

// Plain weights: sum over pairs in order.
template <class X, int FORMAT, int R, int P>
MOONTIDE_INLINE void plain_tile(const X* const (&x)[R], const char* w, int64_t columns, F (&sum)[R][P]) {
    constexpr int64_t PANEL = FORMAT == F32 ? 128 : 64;
    clear(sum);
    for (int64_t column = 0; column < columns; column += 2, w += PANELS * PANEL) {
        typename Steps<X>::Step step[P];
        MOONTIDE_UNROLL for (int p = 0; p < P; ++p)
            step[p] = FORMAT == F32 ? Steps<X>::wide(w + p * PANEL) : Steps<X>::narrow(w + p * PANEL);
        add_step<X, R, P>(sum, step, x, column);
    }
}

constexpr int64_t AHEAD = 4096;  // bytes from what is used to what is fetched: twenty per cent of a decode

// INT4: within a group the integers are summed in order, then the group is scaled and added.
template <class X, int R, int P>
MOONTIDE_INLINE void int4_tile(const X* const (&x)[R], const char* w, const bf16* scale, int64_t columns, F (&sum)[R][P]) {
    clear(sum);
    for (int64_t group = 0; group < columns; group += GROUP, scale += BLOCK) {
        F part[R][P];
        clear(part);
        for (int64_t column = group; column < group + GROUP; column += 8, w += PANELS * 64) {
            I words[P];
            MOONTIDE_UNROLL for (int p = 0; p < P; ++p) __builtin_prefetch(w + AHEAD + p * 64);
            MOONTIDE_UNROLL for (int p = 0; p < P; ++p) words[p] = Isa::words(w + p * 64);
            add_nibbles<X, 0, R, P>(part, words, x, column);
            add_nibbles<X, 4, R, P>(part, words, x, column + 2);
            add_nibbles<X, 8, R, P>(part, words, x, column + 4);
            add_nibbles<X, 12, R, P>(part, words, x, column + 6);
        }
        MOONTIDE_UNROLL for (int p = 0; p < P; ++p) {
            const F factor = Isa::widen(scale + p * LANES);
            MOONTIDE_UNROLL for (int r = 0; r < R; ++r) sum[r][p] = Isa::fma(part[r][p], factor, sum[r][p]);
        }
    }
}

#ifdef MOONTIDE_BF12
#include "bf12.h"
#endif

template <class X> struct BlockProduct {
    const char* values;
    const bf16* scales;
    int64_t columns;
    const X* const* rows;
    int64_t count;

    // R rows from `first` on; rows beyond the last are computed as copies of it and dropped.
    template <int R> void take(int64_t first, const X* (&x)[R]) const {
        for (int r = 0; r < R; ++r) x[r] = rows[first + r < count ? first + r : count - 1];
    }

    template <int FORMAT, int R, class Store> void tile(int64_t first, Store& store) const {
        constexpr int P = Isa::WIDE;
        const X* x[R];
        take<R>(first, x);
        for (int p = 0; p < PANELS; p += P) {
            F sum[R][P];
            if constexpr (FORMAT == INT4) int4_tile<X, R, P>(x, values + p * 64, scales + p * LANES, columns, sum);
#ifdef MOONTIDE_BF12
            else if constexpr (FORMAT == BF12) bf12_tile<X, R>(x, values, scales, columns, sum);
#endif
            else plain_tile<X, FORMAT, R, P>(x, values + p * (FORMAT == F32 ? 128 : 64), columns, sum);
            for (int r = 0; r < R && first + r < count; ++r) store(first + r, p, sum[r]);
        }
    }

    template <int FORMAT, class Store> void tiles(Store& store) const {
        constexpr int MOST = Isa::ROWS;
        int64_t first = 0;
        for (; count - first > (MOST > 4 ? 4 : MOST); first += MOST) tile<FORMAT, MOST>(first, store);
        switch (count - first) {
            case 1: return tile<FORMAT, 1>(first, store);
            case 2: return tile<FORMAT, 2>(first, store);
            case 3: return tile<FORMAT, MOST < 3 ? MOST : 3>(first, store);
            case 4: return tile<FORMAT, MOST < 4 ? MOST : 4>(first, store);
        }
    }

    template <class Store> void run(int64_t format, Store store) const {
        if (format == BF16) return tiles<BF16>(store);
#ifdef MOONTIDE_BF12
        if (format == BF12) return tiles<BF12>(store);
#endif
#ifdef MOONTIDE_DOT
        if constexpr (sizeof(X) == 2) return tiles<INT4>(store);
#endif
        if constexpr (sizeof(X) == 4) return format == F32 ? tiles<F32>(store) : tiles<INT4>(store);
    }
};

// Rows of bf16 as float, for instruction sets and weights that have no products of bf16 pairs.
inline const float* widen_rows(const void* x, int64_t rows, int64_t row, int64_t matrices, int64_t matrix, int64_t columns) {
    float* wide = static_cast<float*>(room(CALLER, rows * matrices * columns * 4));
    for (int64_t t = 0; t < rows; ++t)
        for (int64_t m = 0; m < matrices; ++m)
            for (int64_t k = 0; k < columns; k += LANES)
                Isa::store(wide + (t * matrices + m) * columns + k,
                           Isa::widen(static_cast<const bf16*>(x) + t * row + m * matrix + k));
    return wide;
}

constexpr int64_t CHUNK = 96;  // rows of an item

// Neighbouring blocks are one item: a long read is faster than several. Two items for each thread at least, since another
// program may hold one of them up. `threads` is asked once per job: it may change in the middle.
inline int64_t run_of(const Matrices& weight, int64_t blocks, int64_t threads) {
    constexpr int64_t BYTES = 1 << 20;
    const int64_t even = (blocks + 2 * threads - 1) / (2 * threads);
    return std::max<int64_t>(1, std::min(even, BYTES / weight.block_bytes()));
}

struct ProductItems {
    int64_t blocks, run, chunks, count;

    ProductItems(const Products& job, int64_t threads) {
        blocks = job.weight.count * job.weight.blocks;
        run = run_of(job.weight, blocks, threads);
        chunks = (job.rows + CHUNK - 1) / CHUNK;
        count = (blocks + run - 1) / run * chunks;
    }
};

template <class X> void product_block(const Products& job, int64_t matrix, int64_t block, int64_t first) {
    const int64_t count = job.rows - first < CHUNK ? job.rows - first : CHUNK;
    const X* rows[CHUNK];
    for (int64_t r = 0; r < count; ++r)
        rows[r] = static_cast<const X*>(job.x) + (first + r) * job.x_row + matrix * job.x_matrix;
    const BlockProduct<X> product{job.weight.block(matrix, block), job.weight.scale(matrix, block),
                                  job.weight.columns, rows, count};
    product.run(job.weight.format, [&](int64_t row, int panel, const F (&sum)[Isa::WIDE]) {
        const int64_t base = (first + row) * job.out_row + matrix * job.out_matrix;
        for (int p = 0; p < Isa::WIDE; ++p) {
            const int64_t column = block * BLOCK + (panel + p) * LANES;
            if (column >= job.outputs) return;
            const F value = job.sigmoid ? sigmoid(sum[p]) : sum[p];
            put(at(job.out, job.out_bf16, base + column), job.out_bf16, value, job.outputs - column);
        }
    });
}

template <class X> void product_item(const Products& job, const ProductItems& items, int64_t item) {
    const int64_t first = item / items.chunks * items.run, end = std::min(first + items.run, items.blocks);
    for (int64_t index = first; index < end; ++index)
        product_block<X>(job, index / job.weight.blocks, index % job.weight.blocks, item % items.chunks * CHUNK);
}

// Products that do not need each other share out their items at once: one wait instead of several.
template <class X> void products_of(const Products* jobs, int64_t count) {
    const int64_t most_threads = threads();
    int64_t items = 0;
    for (int64_t i = 0; i < count; ++i) items += ProductItems(jobs[i], most_threads).count;
    for_each_item(items, [&](int64_t item) {
        for (const Products* job = jobs;; ++job) {
            const ProductItems own(*job, most_threads);
            if (item < own.count) return product_item<X>(*job, own, item);
            item -= own.count;
        }
    });
}

inline bool pairs_of(const Matrices& weight, bool x_bf16) { return Isa::DOT && x_bf16 && weight.format != F32; }

void run_widened(Products job) {
    job.x = widen_rows(job.x, job.rows, job.x_row, job.weight.count, job.x_matrix, job.weight.columns);
    job.x_bf16 = false;
    job.x_row = job.weight.count * job.weight.columns;
    job.x_matrix = job.weight.columns;
    products_of<float>(&job, 1);
}

void run_products(const Products* jobs, int64_t count) {
    bool pairs = true, wide = true;
    for (int64_t i = 0; i < count; ++i) {
        pairs = pairs && pairs_of(jobs[i].weight, jobs[i].x_bf16);
        wide = wide && !jobs[i].x_bf16;
    }
#ifdef MOONTIDE_DOT
    if (pairs) return products_of<bf16>(jobs, count);
#endif
    if (wide) return products_of<float>(jobs, count);
    if (count == 1) return run_widened(*jobs);
    for (int64_t i = 0; i < count; ++i) run_products(jobs + i, 1);
}
