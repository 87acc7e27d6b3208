// What is done row by row: normalisation, rotation, weighted sums.

constexpr int64_t SOME = 16384;  // elements of an item

template <class Body> void for_each_row(int64_t rows, int64_t columns, Body body) {
    const int64_t step = columns < SOME ? SOME / (columns ? columns : 1) : 1;
    for_each_item((rows + step - 1) / step, [&](int64_t item) {
        const int64_t end = (item + 1) * step < rows ? (item + 1) * step : rows;
        for (int64_t row = item * step; row < end; ++row) body(row);
    });
}

inline float sum_of_lanes(F x) {
    float lanes[LANES];
    Isa::store(lanes, x);
    for (int64_t half = LANES / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) lanes[i] += lanes[i + half];
    return lanes[0];
}

void run_rms_norm(const Rows& job) {
    const bool narrow = job.is_bf16;
    for_each_row(job.rows, job.columns, [&](int64_t row) {
        F squares = Isa::zero();
        for (int64_t k = 0; k < job.columns; k += LANES) {
            const F x = get(at(job.x, narrow, row * job.x_row + k), narrow, job.columns - k);
            squares = Isa::fma(x, x, squares);
        }
        const F factor = Isa::set1(1.0f / std::sqrt(sum_of_lanes(squares) / float(job.columns) + job.eps));
        for (int64_t k = 0; k < job.columns; k += LANES) {
            F x = Isa::mul(get(at(job.x, narrow, row * job.x_row + k), narrow, job.columns - k), factor);
            if (narrow) {
                bf16 rounded_x[LANES];
                Isa::narrow(rounded_x, x);
                x = Isa::widen(rounded_x);
            }
            const F weight = get(at(job.other, narrow, k), narrow, job.columns - k);
            put(at(job.out, narrow, row * job.out_row + k), narrow, Isa::mul(weight, x), job.columns - k);
        }
    });
}

// Pairs (2i, 2i + 1) of slots [T, H, P], by cosines and sines [T, P / 2].
void run_rotate(const Rows& job) {
    const int64_t half = job.columns / 2;
    for_each_row(job.rows, job.slots * job.columns, [&](int64_t row) {
        const float *cosine = static_cast<const float*>(job.other) + row * half, *sine = static_cast<const float*>(job.third) + row * half;
        for (int64_t slot = 0; slot < job.slots; ++slot) {
            const int64_t from = row * job.x_row + slot * job.x_slot, to = row * job.out_row + slot * job.out_slot;
            for (int64_t i = 0; i < half; ++i) {
                float even, odd;
                if (job.is_bf16) {
                    even = widened(static_cast<const bf16*>(job.x)[from + 2 * i]);
                    odd = widened(static_cast<const bf16*>(job.x)[from + 2 * i + 1]);
                } else {
                    even = static_cast<const float*>(job.x)[from + 2 * i];
                    odd = static_cast<const float*>(job.x)[from + 2 * i + 1];
                }
                const float first = even * cosine[i] - odd * sine[i], second = even * sine[i] + odd * cosine[i];
                if (job.is_bf16) {
                    static_cast<bf16*>(job.out)[to + 2 * i] = rounded(first);
                    static_cast<bf16*>(job.out)[to + 2 * i + 1] = rounded(second);
                } else {
                    static_cast<float*>(job.out)[to + 2 * i] = first;
                    static_cast<float*>(job.out)[to + 2 * i + 1] = second;
                }
            }
        }
    });
}

// rows [T, k, D] times weights [T, k], summed in order of k.
void run_weighted_sum(const Rows& job) {
    for_each_row(job.rows, job.slots * job.columns, [&](int64_t row) {
        const float* weights = static_cast<const float*>(job.other) + row * job.slots;
        for (int64_t k = 0; k < job.columns; k += LANES) {
            F sum = Isa::zero();
            for (int64_t slot = 0; slot < job.slots; ++slot) {
                const F x = get(at(job.x, job.is_bf16, (row * job.slots + slot) * job.columns + k), job.is_bf16, job.columns - k);
                const F scaled = Isa::mul(x, Isa::set1(weights[slot]));
                sum = slot ? Isa::add(sum, scaled) : scaled;
            }
            put(at(job.out, job.is_bf16, row * job.out_row + k), job.is_bf16, sum, job.columns - k);
        }
    });
}

// x [T, D] plus other [T, D].
void run_add(const Rows& job) {
    for_each_row(job.rows, job.columns, [&](int64_t row) {
        for (int64_t k = 0; k < job.columns; k += LANES) {
            const F one = get(at(job.x, job.is_bf16, row * job.x_row + k), job.is_bf16, job.columns - k);
            const F other = get(at(job.other, job.is_bf16, row * job.x_row + k), job.is_bf16, job.columns - k);
            put(at(job.out, job.is_bf16, row * job.out_row + k), job.is_bf16, Isa::add(one, other), job.columns - k);
        }
    });
}
