// Absorbed latent attention from pages: online softmax (arXiv 1805.02867), lanes are heads.
//
// Keys are taken in blocks of KEYS counted from position 0; blocks are summed within spans of SPAN keys, spans are
// merged in order. Who computes a span, and beside what, changes nothing.

inline const void* key_of(const Attention& job, int64_t row, int64_t position) {
    const int64_t page = job.tables[job.sequences[row] * job.table_row + position / job.page];
    return at(job.pool, job.is_bf16, (page * job.page + position % job.page) * job.width);
}

// Result of some keys for one row: largest score and sum of weights per head, weighted sum per head and latent column.
struct Partial {
    float *largest, *total, *sum;
};

template <class X> class RowAttention {
  public:
    explicit RowAttention(const Attention& job)
        : job(job), heads(round_up(job.heads, LANES)), latents(round_up(job.rank, BLOCK)), pairs(job.width / 2) {}

    int64_t partial_floats() const { return heads * (latents + 2); }
    Partial partial(float* room) const { return {room, room + heads, room + 2 * heads}; }

    // All of a row's keys: the spans one after another.
    void run(int64_t row) {
        float* memory = scratch(2 * partial_floats());
        const Partial all = partial(memory), next = partial(memory + partial_floats());
        pack_query(row);
        for (int64_t start = 0; start <= job.positions[row]; start += SPAN) {
            span(row, start, start ? next : all);
            if (start) merge(all, next);
        }
        finish(row, all);
    }

    void run_span(int64_t row, int64_t start, Partial into) {
        scratch(0);
        pack_query(row);
        span(row, start, into);
    }

    void merge(Partial all, Partial next) const {
        float left[LANES], right[LANES];
        for (int64_t head = 0; head < heads; head += LANES) {
            const F a = Isa::load(all.largest + head), b = Isa::load(next.largest + head), most = Isa::max(a, b);
            const F keep = exponential(Isa::sub(a, most)), take = exponential(Isa::sub(b, most));
            Isa::store(all.largest + head, most);
            Isa::store(all.total + head,
                       Isa::fma(Isa::load(all.total + head), keep, Isa::mul(Isa::load(next.total + head), take)));
            Isa::store(left, keep), Isa::store(right, take);
            for (int64_t i = 0; i < LANES; ++i)
                for (int64_t r = 0; r < latents; r += LANES) {
                    float* to = all.sum + (head + i) * latents + r;
                    const F other = Isa::mul(Isa::load(next.sum + (head + i) * latents + r), Isa::set1(right[i]));
                    Isa::store(to, Isa::fma(Isa::load(to), Isa::set1(left[i]), other));
                }
        }
    }

    void finish(int64_t row, Partial all) const {
        for (int64_t head = 0; head < job.heads; ++head) {
            const F total = Isa::set1(all.total[head]);
            for (int64_t r = 0; r < job.rank; r += LANES)
                put(at(job.out, job.is_bf16, (row * job.heads + head) * job.rank + r), job.is_bf16,
                    Isa::div(Isa::load(all.sum + head * latents + r), total), job.rank - r);
        }
    }

  private:
    static constexpr bool DOT = sizeof(X) == 2;
    static constexpr int64_t STEP = 32 * sizeof(X);  // bytes of sixteen lanes of a pair
    const Attention& job;
    const int64_t heads, latents, pairs;
    char *query, *values;  // [head panel][pair][lanes, pair]; [pair of keys][latent panel][lanes, pair]
    X* weights;            // [pair of keys][head][2]
    float *scores, *copies;  // [key][head]; [key][width], only without products of pairs

    float* scratch(int64_t floats) {
        const int64_t query_bytes = heads / LANES * pairs * STEP, value_bytes = KEYS / 2 * latents / LANES * STEP;
        const int64_t copy_bytes = DOT ? 0 : KEYS * round_up(job.width, LANES) * 4;
        const int64_t fixed = query_bytes + value_bytes + copy_bytes + KEYS * heads * (4 + sizeof(X));
        char* memory = static_cast<char*>(room(ATTENTION, fixed + floats * 4));
        query = memory;
        values = query + query_bytes;
        scores = reinterpret_cast<float*>(values + value_bytes);
        weights = reinterpret_cast<X*>(scores + KEYS * heads);
        copies = reinterpret_cast<float*>(weights + KEYS * heads);
        return reinterpret_cast<float*>(memory + fixed);
    }

    // X of element (pair, lane, half) of a step.
    static MOONTIDE_INLINE int64_t place(int64_t lane, int64_t half) { return DOT ? 2 * lane + half : half * LANES + lane; }

    void pack_query(int64_t row) {
        memset(query, 0, heads / LANES * pairs * STEP);
        for (int64_t head = 0; head < job.heads; ++head) {
            X* panel = reinterpret_cast<X*>(query + head / LANES * pairs * STEP);
            const void* from = at(job.query, job.is_bf16, (row * job.heads + head) * job.width);
            for (int64_t k = 0; k < job.width; ++k)
                panel[k / 2 * 2 * LANES + place(head % LANES, k % 2)] = element(from, k);
        }
    }

    MOONTIDE_INLINE X element(const void* from, int64_t k) const {
        if constexpr (DOT) return static_cast<const bf16*>(from)[k];
        else return job.is_bf16 ? widened(static_cast<const bf16*>(from)[k]) : static_cast<const float*>(from)[k];
    }

    void span(int64_t row, int64_t start, Partial into) {
        const int64_t end = job.positions[row] + 1 < start + SPAN ? job.positions[row] + 1 : start + SPAN;
        for (int64_t i = 0; i < heads; ++i) into.largest[i] = -INFINITY, into.total[i] = 0;
        memset(into.sum, 0, heads * latents * 4);
        for (int64_t key = start; key < end; key += KEYS) block(row, key, end - key < KEYS ? end - key : KEYS, into);
    }

    void block(int64_t row, int64_t start, int64_t count, Partial into) {
        const X* keys[KEYS];
        const int64_t wide = round_up(job.width, LANES);
        for (int64_t i = 0; i < count; ++i) {
            const void* key = key_of(job, row, start + i);
            if constexpr (DOT) {
                keys[i] = static_cast<const X*>(key);
            } else {
                for (int64_t k = 0; k < job.width; k += LANES)
                    Isa::store(copies + i * wide + k, get(at(key, job.is_bf16, k), job.is_bf16, job.width - k));
                keys[i] = copies + i * wide;
            }
        }
        pack_values(keys, count);
        alignas(64) float shrink[LANES];
        for (int64_t head = 0; head < heads; head += LANES) {
            score(keys, count, head);
            Isa::store(shrink, soften(count, head, into));
            for (int64_t i = 0; i < LANES && head + i < job.heads; i += 4)
                for (int64_t r = 0; r < latents; r += BLOCK) add_values(head + i, r, count, shrink + i, into);
        }
    }

    // Pairs of keys side by side; beyond the last key zero, whatever the page holds there.
    void pack_values(const X* const* keys, int64_t count) {
        for (int64_t pair = 0; pair < (count + 1) / 2; ++pair) {
            const X *a = keys[2 * pair], *b = 2 * pair + 1 < count ? keys[2 * pair + 1] : nullptr;
            for (int64_t r = 0; r < latents; r += LANES) {
                char* to = values + (pair * latents + r) / LANES * STEP;
                const int64_t left = job.rank - r < 0 ? 0 : job.rank - r;
#ifdef MOONTIDE_DOT
                if constexpr (DOT) {
                    _mm512_storeu_si512(to, Isa::interleaved(a + r, b ? b + r : nullptr, left));
                    continue;
                }
#endif
                if constexpr (!DOT) {
                    Isa::store(reinterpret_cast<float*>(to), get(a + r, false, left));
                    Isa::store(reinterpret_cast<float*>(to) + LANES, b ? get(b + r, false, left) : Isa::zero());
                }
            }
        }
    }

    void score(const X* const* keys, int64_t count, int64_t head) {
        constexpr int R = Isa::ROWS > 4 ? 8 : 4;
        const char* panel = query + head / LANES * pairs * STEP;
        for (int64_t first = 0; first < count; first += R) {
            const X* x[R];
            F sum[R][1];
            for (int r = 0; r < R; ++r) x[r] = keys[first + r < count ? first + r : count - 1];
            clear(sum);
            for (int64_t pair = 0; pair < pairs; ++pair) {
                const typename Steps<X>::Step step[1] = {DOT ? Steps<X>::narrow(panel + pair * STEP) : Steps<X>::wide(panel + pair * STEP)};
                add_step<X, R, 1>(sum, step, x, 2 * pair);
            }
            for (int r = 0; r < R && first + r < count; ++r)
                Isa::store(scores + (first + r) * LANES, Isa::mul(sum[r][0], Isa::set1(job.scale)));
        }
    }

    // Scores of sixteen heads to weights; returns what earlier sums must be multiplied with.
    F soften(int64_t count, int64_t head, Partial into) {
        const F before = Isa::load(into.largest + head);
        F most = before, total = Isa::zero();
        for (int64_t i = 0; i < count; ++i) most = Isa::max(most, Isa::load(scores + i * LANES));
        for (int64_t i = 0; i < count; i += 2) {
            const F first = exponential(Isa::sub(Isa::load(scores + i * LANES), most));
            F second = Isa::zero();
            total = Isa::add(total, first);
            if (i + 1 < count) {
                second = exponential(Isa::sub(Isa::load(scores + (i + 1) * LANES), most));
                total = Isa::add(total, second);
            }
            keep_weights(i / 2, first, second);
        }
        const F shrink = exponential(Isa::sub(before, most));
        Isa::store(into.largest + head, most);
        Isa::store(into.total + head, Isa::fma(Isa::load(into.total + head), shrink, total));
        return shrink;
    }

    MOONTIDE_INLINE void keep_weights(int64_t pair, F first, F second) {
        X* to = weights + pair * 2 * LANES;
#ifdef MOONTIDE_DOT
        if constexpr (DOT) _mm512_storeu_si512(to, Isa::pairs(first, second));
#endif
        if constexpr (!DOT) {
            float halves[2][LANES];
            Isa::store(halves[0], first), Isa::store(halves[1], second);
            for (int64_t i = 0; i < LANES; ++i) to[2 * i] = halves[0][i], to[2 * i + 1] = halves[1][i];
        }
    }

    // Four heads by 64 latent columns: earlier sums shrink, this block's are added.
    void add_values(int64_t head, int64_t latent, int64_t count, const float* shrink, Partial into) {
        constexpr int P = Isa::WIDE;
        for (int64_t panel = 0; panel < PANELS; panel += P) {
            const int64_t column = latent + panel * LANES;
            F sum[4][P];
            clear(sum);
            const X* x[4];
            for (int r = 0; r < 4; ++r) x[r] = weights + (head % LANES + r) * 2;
            const char* from = values + column / LANES * STEP;
            for (int64_t pair = 0; pair < (count + 1) / 2; ++pair, from += latents / LANES * STEP) {
                typename Steps<X>::Step step[P];
                MOONTIDE_UNROLL for (int p = 0; p < P; ++p) step[p] = DOT ? Steps<X>::narrow(from + p * STEP) : Steps<X>::wide(from + p * STEP);
                add_step<X, 4, P>(sum, step, x, pair * 2 * LANES);
            }
            for (int r = 0; r < 4; ++r)
                for (int p = 0; p < P; ++p) {
                    float* to = into.sum + (head + r) * latents + column + p * LANES;
                    Isa::store(to, Isa::fma(Isa::load(to), Isa::set1(shrink[r]), sum[r][p]));
                }
        }
    }
};

template <class X> void attention_of(const Attention& job) {
    int64_t most = 0;
    for (int64_t row = 0; row < job.rows; ++row) most = job.positions[row] > most ? job.positions[row] : most;
    const int64_t spans = most / SPAN + 1;
    if (spans == 1 || job.rows >= 2 * threads())
        return for_each_item(job.rows, [&](int64_t row) { RowAttention<X>(job).run(row); });
    const int64_t floats = RowAttention<X>(job).partial_floats();
    float* memory = static_cast<float*>(room(CALLER, job.rows * spans * floats * 4));
    for_each_item(job.rows * spans, [&](int64_t item) {
        RowAttention<X> attention(job);
        const int64_t row = item / spans, start = item % spans * SPAN;
        if (start <= job.positions[row]) attention.run_span(row, start, attention.partial(memory + item * floats));
    });
    for_each_item(job.rows, [&](int64_t row) {
        const RowAttention<X> attention(job);
        const Partial all = attention.partial(memory + row * spans * floats);
        for (int64_t span = 1; span * SPAN <= job.positions[row]; ++span)
            attention.merge(all, attention.partial(memory + (row * spans + span) * floats));
        attention.finish(row, all);
    });
}

void run_attention(const Attention& job) {
#ifdef MOONTIDE_DOT
    if (job.is_bf16) return attention_of<bf16>(job);
#endif
    attention_of<float>(job);
}
