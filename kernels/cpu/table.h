// The last lines of every instruction set's file.
namespace moontide {
const Table* MOONTIDE_TABLE() {
    static const Table table = {run_products, run_experts,      run_attention, run_rms_norm,
                                run_rotate,   run_weighted_sum, run_add,       run_draws};
    return &table;
}
}  // namespace moontide
