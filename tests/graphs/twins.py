"""The one table of the broken twins of growth: every rule by name, how it is broken, and the node that shows it.

Those of the rules of ops are in `test_op_twins` and `test_op_claims`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import breaking
import numpy as np
from breaking import Breaking, always, at_call, each, then

from mnx.graphs.growth.maps import growth_map
from mnx.graphs.ops.rule import Kind


@dataclass(frozen=True)
class Twin:
    """A rule by the name it is called by, how it is broken, where this shows, at which node first, in which style."""

    rule: str
    breaking: Breaking
    pair: str
    node: str
    split: str = "random"
    fresh: float = 0.0


GROW = "growing.Growing."
NORMS = "deeper with norms"

TWINS: Mapping[str, Twin] = {
    # Shares.
    "every copy of a column gets all of it": Twin("growing.shared", breaking.whole_columns, "wider", "fc2"),
    "every copy gets all, equal split": Twin("growing.shared", breaking.whole_columns, "wider", "fc2", "equal"),
    "shares add up to a thousandth too much": Twin("growing.shared", breaking.sums_too_large(1.001), "wider", "fc2"),
    "draws that add up to nothing": Twin("growing.shared", breaking.draws_as_they_are, "wider", "fc2"),
    "shares by the average number of copies": Twin(
        "growing.shared", breaking.shares_by_average_count, "wider", "fc2", "equal"
    ),
    "no column has copies": Twin("shares._sharing", always([]), "wider", "fc2"),
    "shares a thousandth too large": Twin(GROW + "_shares", then(breaking.off), "wider", "fc2"),
    "columns without shares": Twin(GROW + "_columns", breaking.columns_repeated, "wider", "fc2"),
    "fresh columns that add up to something": Twin(
        "shares.taken", breaking.fresh_columns_of(0.1), "wider", "fc2", fresh=1.0
    ),
    "channels beside that are read": Twin(
        "shares.taken", breaking.fresh_columns_of(0.1), "a further layer of a dense block", "head"
    ),
    # Maps.
    "rows by another map": Twin("growing.axis_map", at_call(0, breaking.rolled), "wider", "fc1"),
    "columns by another map": Twin("growing.axis_map", at_call(4, breaking.rolled), "wider", "fc2"),
    "biases by another map": Twin("growing.axis_map", at_call(2, breaking.rolled), "wider", "fc1"),
    "scales by another map": Twin("growing.axis_map", at_call(2, breaking.rolled), "wider with norms", "fc1_norm"),
    "means by another map": Twin("growing.axis_map", at_call(4, breaking.rolled), "wider with norms", "fc1_norm"),
    "flattened channels innermost": Twin("growing.axis_map", breaking.channels_innermost, "wider images", "flatten"),
    "branches that all begin at 0": Twin("growing.axis_map", breaking.parts_without_offset, "concat", "concat"),
    "a map that forgets a channel": Twin("growing.growth_map", then(breaking.without_first), "wider", "fc2"),
    "a group's map that forgets a channel": Twin(GROW + "_drawn_map", then(breaking.without_first), "wider", "fc2"),
    "an axis's map off by one": Twin(GROW + "axis", at_call(0, breaking.rolled), "wider", "fc1"),
    "rows off by one": Twin(GROW + "_rows", at_call(0, breaking.rolled), "wider", "fc1"),
    "heads by another map": Twin("growing.axis_map", at_call(0, breaking.rolled), "wider heads", "matmul"),
    "blocks torn apart": Twin("growing.axis_map", then(breaking.last_two_swapped), "more blocks of channels", "conv"),
    "normalised blocks torn apart": Twin(
        "growing.axis_map", then(breaking.last_two_swapped), "more normalised blocks", "conv"
    ),
    "repeated rows off by one": Twin(GROW + "_repeated", at_call(0, breaking.rolled), "wider", "fc1"),
    "fresh channels that should be alike and are not": Twin(
        "growing.taken", breaking.own_fresh_rows, "wider", "fc2", fresh=1.0
    ),
    # Parameters.
    "biases not repeated": Twin(GROW + "_parameter", breaking.only_first_copies(Kind.BIAS, 0.0), "wider", "fc1"),
    "scales not repeated": Twin(
        GROW + "_parameter", breaking.only_first_copies(Kind.SCALE, 1.0), "wider with norms", "fc1_norm"
    ),
    "shifts not repeated": Twin(
        GROW + "_parameter", breaking.only_first_copies(Kind.SHIFT, 0.0), "wider with norms", "fc1_norm"
    ),
    "means not repeated": Twin(
        GROW + "_parameter", breaking.only_first_copies(Kind.MEAN, 0.0), "wider with norms", "fc1_norm"
    ),
    "variances not repeated": Twin(
        GROW + "_parameter", breaking.only_first_copies(Kind.VARIANCE, 1.0), "wider with norms", "fc1_norm"
    ),
    "parameters a thousandth too large": Twin(GROW + "parameters", then(each(breaking.off)), "wider", "fc1"),
    "weights a thousandth too large": Twin(GROW + "weights", then(each(breaking.off)), "wider", "fc1"),
    "the mother's own a thousandth too large": Twin(GROW + "matched", then(each(breaking.off)), "wider", "fc1"),
    "biases that the member has no place for, lost": Twin(
        "growing.missing_bias", always(""), "norms where there were none", "norm1_1"
    ),
    "biases that no mean takes up": Twin(GROW + "_behind", always({}), "norms where there were none", "norm1_1"),
    # Kernels.
    "a kernel in the corner": Twin("growing.placed", breaking.kernel_in_the_corner, "larger kernel", "conv1_1"),
    "a kernel one row off": Twin("growing.placed", breaking.kernel_one_row_off, "larger kernel", "conv1_1"),
    "a dilated kernel in the corner": Twin(
        "growing.placed", breaking.kernel_in_the_corner, "larger dilated kernel", "conv"
    ),
    "a kernel of a signal in the corner": Twin(
        "growing.placed", breaking.kernel_in_the_corner, "larger kernel on a signal", "conv"
    ),
    "a kernel of even size in the corner": Twin(
        "growing.placed", breaking.kernel_in_the_corner, "larger kernel of even size", "conv"
    ),
    "a kernel mirrored": Twin(GROW + "in_kernel", then(breaking.flipped), "larger kernel of even size", "conv"),
    "a single tap in the corner": Twin("growing.placed", breaking.kernel_in_the_corner, "deeper images", "conv1_2"),
    "a single tap that reads a neighbour": Twin(
        "growing._single_tap", then(breaking.tap_in_the_corner), "deeper images", "conv1_2"
    ),
    # Insertions.
    "an inserted linear layer off by one": Twin("growing.identity", breaking.unit_off_by_one, "deeper", "fc2"),
    "an inserted convolution off by one": Twin(
        "growing.identity", breaking.unit_off_by_one, "deeper images", "conv1_2"
    ),
    "an inserted convolution in groups off by one": Twin(
        "growing.identity", breaking.unit_off_by_one, "deeper in groups", "conv_2"
    ),
    "an inserted depthwise convolution a thousandth too large": Twin(
        "insert.IDENTITIES.Conv", then(each(breaking.off)), "deeper channel by channel", "conv_1"
    ),
    "an inserted layer of tokens a thousandth too large": Twin(
        "insert.IDENTITIES.MatMul", then(each(breaking.off)), "deeper on tokens", "matmul_1"
    ),
    "an inserted layer of vectors a thousandth too large": Twin(
        "insert.IDENTITIES.Gemm", then(each(breaking.off)), "deeper", "fc2"
    ),
    "an inserted bias that is not 0": Twin("insert.IDENTITIES.Add", then(each(np.ones_like)), "a bias", "add"),
    "an inserted scale that is not 1": Twin("insert.IDENTITIES.Mul", then(each(np.zeros_like)), "a scale", "mul"),
    "an inserted slope that is not 1": Twin("insert.IDENTITIES.PRelu", then(each(np.zeros_like)), "a slope", "prelu"),
    "inserted ops as they were drawn": Twin("growing.inserted", always([]), "deeper", "fc2"),
    "an inserted norm not calibrated": Twin("growing.identity", breaking.norm_as_it_starts, NORMS, "fc2_norm"),
    "an inserted norm without its shift": Twin(
        "growing.identity", breaking.norm_without(Kind.SHIFT), NORMS, "fc2_norm"
    ),
    "an inserted norm without its mean": Twin("growing.identity", breaking.norm_without(Kind.MEAN), NORMS, "fc2_norm"),
    "an inserted norm without its scale": Twin(
        "growing.identity", breaking.norm_without(Kind.SCALE), NORMS, "fc2_norm"
    ),
    "an inserted norm a thousandth off": Twin(
        "insert.IDENTITIES.BatchNormalization", then(each(breaking.off)), NORMS, "fc2_norm"
    ),
    "calibration by the unbiased variance": Twin(
        "growing.channel_statistics", breaking.unbiased_variance, NORMS, "fc2_norm"
    ),
    "statistics of nothing": Twin(GROW + "statistics", then(lambda found: (0 * found[0], found[1])), NORMS, "fc2_norm"),
    "calibration on other values": Twin(GROW + "_value", then(breaking.off), NORMS, "fc2_norm"),
    "a new residual branch not zeroed": Twin(
        "growing.zero", breaking.branch_left_open(Kind.SCALE), "more residual blocks", "block1_2.add"
    ),
    "a new residual branch with a shift": Twin(
        "growing.zero", breaking.branch_left_open(Kind.SHIFT), "more residual blocks", "block1_2.add"
    ),
    # Codes.
    "a pair without its signs": Twin("growing.code_of", then(breaking.half_signs), "pairs", "head"),
    "a pair decoded by another factor": Twin("growing.code_of", then(breaking.gain_off), "pairs", "head"),
    "a leaky pair decoded by another factor": Twin("growing.code_of", then(breaking.gain_off), "leaky pairs", "head"),
    "a leaky pair taken for a plain one": Twin("passages.bend", then(breaking.plain_mirror), "leaky pairs", "head"),
    "the copies of a pair taken for one another": Twin(
        GROW + "_doubled", at_call(0, breaking.marks_rolled), "pairs", "head"
    ),
    "the copies of a pair taken for one another in an axis": Twin(
        "growing.doubled", at_call(0, breaking.marks_rolled), "pairs", "head"
    ),
    "copies marked by the other": Twin("codes._marks", at_call(0, lambda marks: 1 - marks), "pairs", "head"),
    "rows without code": Twin(
        "growing.coded_rows", lambda rule: lambda op, p, value, code, e, m: value[e], "pairs", "head"
    ),
    "columns that take no gain back": Twin("growing.decoded_columns", breaking.ungained, "leaky pairs", "head"),
    "groups in code not known": Twin(GROW + "coded", always([]), "shifted", "head"),
    "rows between norms that are not repeated": Twin(GROW + "old_width", always(0), "pairs behind two norms", "conv_2"),
    "a shift that no bias makes": Twin("growing.coded_rows", breaking.without_shift, "shifted", "head"),
    "a shift that is not taken back": Twin("growing.constant_behind", always(np.zeros(1)), "shifted", "head"),
    "a shift that a bias does not take back": Twin(GROW + "_constant", always(np.zeros(1)), "shifted", "head"),
    "a shift that nothing takes back": Twin(
        GROW + "_decoding", lambda rule: lambda s, op, values: values, "shifted", "head"
    ),
    "a shift taken back of other channels": Twin(GROW + "_is_of", then(np.logical_not), "shifted", "head"),
    "a shift short of the straight part": Twin("align.passages", breaking.less_shifted, "shifted", "head"),
    "a shift before a norm that takes it off": Twin(
        "passages._coding", lambda rule: lambda run: run.between[:1], "shifted behind two norms", "conv_2"
    ),
    "a shift before zeros around an image": Twin("passages._decodes", always(True), "shifted before padding", "conv_2"),
    "SiLU straight from 2 on": Twin("passages.SILU_IS_STRAIGHT", lambda _: 2.0, "shifted SiLU", "head"),
    "a pair before a maximum": Twin("passages._settling", breaking.past_everything, "pairs before a maximum", "conv_2"),
    "numbers too large for tanh": Twin("growing.SMALL", lambda _: 0.3, "small", "head"),
    "numbers that tanh gets as they are": Twin(GROW + "_largest", always(0.0), "small", "head"),
    "SiLU at least 0": Twin(
        "align.gated_range", then(lambda found: found and (0.0, 1e9)), "a ReLU behind SiLU", "relu"
    ),
    "any product with oneself a SiLU": Twin(
        "passages.is_gated", lambda rule: lambda unit: getattr(unit, "join", None) is not None, "x softplus(x)", "head"
    ),
    # Exchanges.
    "a factor not taken over": Twin("align.gate_at", then(breaking.not_taken_over), "a gate before", "mul"),
    "a factor not taken over behind": Twin("align.gate_at", then(breaking.not_taken_over), "a gate behind", "conv_5"),
    "a gate taken for open": Twin("exchanges._level", then(lambda level: level and 1.0), "a gate before", "mul"),
    "an activation that takes a factor": Twin("exchanges._gives_rows", always(True), "a gate behind HardSwish", "mul"),
    "columns that take no factor": Twin("exchanges._behind", always(((), ())), "a gate behind HardSwish", "conv_5"),
    "nothing taken over": Twin(
        GROW + "exchanged", lambda rule: lambda self, weights, *_: dict(weights), "a gate before", "mul"
    ),
    "a scale not handed over": Twin(
        "align.norm_at", then(breaking.not_handed_over), "a norm behind the sum", "layernormalization_2"
    ),
    "a normalisation twice with a large epsilon": Twin(
        "exchanges._is_norm",
        lambda rule: lambda op: op.op == "LayerNormalization",
        "a norm of large epsilon behind the sum",
        "add_1",
    ),
    # Heads.
    "queries as they come": Twin(
        "queries.Queries.row", breaking.rows_as_they_come, "heads that grow in width", "matmul_4"
    ),
    "unscaled heads": Twin("queries.attention_of", then(breaking.unscaled), "heads that grow in width", "mul"),
    "queries of another scale as they come": Twin(
        "queries.Queries.row", breaking.rows_as_they_come, "more heads of another scale", "mul"
    ),
    "joined queries as they come": Twin(
        "queries.Queries.row", breaking.rows_as_they_come, "joined heads that grow in width", "matmul_2"
    ),
    "values taken for queries": Twin(
        "attention._channels", then(breaking.all_marked), "joined heads that grow in width", "matmul_1"
    ),
    # Means.
    "a naive LayerNormalization": Twin("means.Means.scaled", breaking.without_scale, "a mean", "layernormalization"),
    "zeros for means": Twin("means.Means.row", always(0.0), "a mean", "layernormalization"),
    "zeros for means in blocks": Twin(
        "means.Means.row", always(0.0), "a mean of residual blocks", "layernormalization"
    ),
    "rows at the mean that are zero": Twin("means.Means.row", always(0.0), "a mean", "layernormalization"),
    "channels at the mean taken for fresh ones": Twin(
        "means.Means.group_of", always(None), "a mean", "layernormalization"
    ),
    "an epsilon that is not scaled": Twin(
        "means.Means.attributes", always({}), "a mean with a large epsilon", "layernormalization"
    ),
    "a map with fresh channels for a mean": Twin(
        "growing.map_with_means", lambda rule: growth_map, "a mean", "layernormalization"
    ),
    "a mean of what is bent": Twin(
        "centred._Search._traced", always(True), "a mean of what is bent", "layernormalization"
    ),
    "a mean of what is bent, by its search": Twin(
        "centred._Search.whole", always(True), "a mean of what is bent", "layernormalization"
    ),
    "a mean of what is bent, whatever is found": Twin(
        "centred.centred",
        then(lambda found: replace(found, groups=frozenset(range(9)))),
        "a mean of what is bent",
        "layernormalization",
    ),
    "an RMSNorm that is not scaled": Twin("centred._Search._rms_norm", always(True), "a mean of squares", "reducemean"),
    "an RMSNorm of ones": Twin("means.Means.row", always(1.0), "a mean of squares", "reducemean"),
    "an epsilon of squares that is not scaled": Twin(
        "means.Means.epsilons", always({}), "a mean of squares", "reducemean"
    ),
    "a mean before its layer scale": Twin(
        "centred._Search._traced_operand", breaking.no_demand, "a mean of residual blocks", "layernormalization_1"
    ),
    "channels at the mean taken for zeros": Twin(
        "centred._Search._settle", breaking.every_op_settled, "a mean read before its norm", "up"
    ),
}
